//! What tells who somebody is: patterns, and checksums where there are any.

use std::net::Ipv6Addr;

use protocol::snapshot::PiiKind;

use super::screen::{Rule, Screen};

/// Bytes at the end of a streamed text that wait for what comes behind; longer than any address of mail.
const HOLD_BYTES_MAX: usize = 320;

/// All kinds, the longer numbers before those that may be a part of them.
const ALL: [PiiKind; 6] = [
    PiiKind::Email,
    PiiKind::Iban,
    PiiKind::CreditCard,
    PiiKind::UsSsn,
    PiiKind::IpAddress,
    PiiKind::Phone,
];

/// Compiles the patterns of these kinds; of all if there are none.
///
/// # Errors
/// Never for these patterns.
pub(super) fn screen(kinds: &[PiiKind]) -> Result<Screen, String> {
    let chosen = ALL
        .into_iter()
        .filter(|kind| kinds.is_empty() || kinds.contains(kind));
    Screen::compile(chosen.flat_map(rules).collect(), HOLD_BYTES_MAX)
}

fn rules(kind: PiiKind) -> Vec<Rule> {
    match kind {
        PiiKind::Email => vec![Rule::new(
            "EMAIL",
            r"[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}",
        )],
        PiiKind::Iban => vec![Rule {
            check: iban,
            ..Rule::new(
                "IBAN",
                r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?-u:\b)",
            )
        }],
        PiiKind::CreditCard => vec![Rule {
            check: credit_card,
            ..Rule::new("CREDIT_CARD", r"(?-u:\b)[2-6](?:[ -]?[0-9]){12,18}(?-u:\b)")
        }],
        PiiKind::UsSsn => vec![Rule {
            check: us_ssn,
            ..Rule::new("US_SSN", r"(?-u:\b)[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}(?-u:\b)")
        }],
        PiiKind::IpAddress => vec![
            Rule::new(
                "IP_ADDRESS",
                r"(?-u:\b)(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?-u:\b)",
            ),
            Rule {
                check: ipv6,
                ..Rule::new("IP_ADDRESS", "(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}")
            },
        ],
        PiiKind::Phone => vec![
            Rule {
                check: phone,
                ..Rule::new("PHONE", r"\+[1-9](?:[ ./()-]{0,2}[0-9]){6,14}(?-u:\b)")
            },
            Rule::new(
                "PHONE",
                r"(?:\([2-9][0-9]{2}\) ?|(?-u:\b)[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4}(?-u:\b)",
            ),
            Rule::new("PHONE", r"(?-u:\b)0[1-9][0-9]{1,4}[ /-][0-9]{5,9}(?-u:\b)"),
        ],
    }
}

fn found(is_found: bool) -> Option<usize> {
    is_found.then_some(0)
}

fn digits(text: &str) -> impl DoubleEndedIterator<Item = u32> {
    text.chars().filter_map(|character| character.to_digit(10))
}

/// Every second digit from the right counts twice (ISO/IEC 7812); who begins with which digit has which length.
fn credit_card(text: &str) -> Option<usize> {
    let lengths = match text.chars().next()? {
        '2' | '5' => 16..=16,
        '3' => 14..=16,
        '4' => 13..=19,
        _ => 16..=19,
    };
    if !lengths.contains(&digits(text).count()) {
        return None;
    }
    let sum: u32 = digits(text)
        .rev()
        .enumerate()
        .map(|(place, digit)| match place % 2 {
            0 => digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    found(sum.is_multiple_of(10))
}

/// The number that the account is, with its head at its end, leaves 1 when divided by 97 (ISO 13616).
fn iban(text: &str) -> Option<usize> {
    let account: String = text.chars().filter(|character| *character != ' ').collect();
    let (head, rest) = account.split_at_checked(4)?;
    let rest = [rest, head]
        .concat()
        .chars()
        .try_fold(0_u32, |rest, character| {
            let digit = character.to_digit(36)?;
            let shift = if digit < 10 { 10 } else { 100 };
            Some((rest * shift + digit) % 97)
        })?;
    found((15..=34).contains(&account.len()) && rest == 1)
}

/// Some areas, and groups and numbers of zeros, are given to nobody.
fn us_ssn(text: &str) -> Option<usize> {
    let is_given = !text.starts_with("000")
        && !text.starts_with("666")
        && !text.contains("-00-")
        && !text.ends_with("-0000");
    found(is_given)
}

fn ipv6(text: &str) -> Option<usize> {
    found(text.parse::<Ipv6Addr>().is_ok())
}

fn phone(text: &str) -> Option<usize> {
    found((7..=15).contains(&digits(text).count()))
}

#[cfg(test)]
mod tests {
    use protocol::snapshot::PiiKind;

    use super::screen;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        screen(&[]).unwrap().check(text, expected);
    }

    #[test]
    fn people_are_found_by_what_is_theirs() {
        check(
            "mail a.b+c@mail.example.org, now",
            &[("EMAIL", "a.b+c@mail.example.org")],
        );
        check(
            "DE89 3704 0044 0532 0130 00.",
            &[("IBAN", "DE89 3704 0044 0532 0130 00")],
        );
        check(
            "GB82WEST12345698765432",
            &[("IBAN", "GB82WEST12345698765432")],
        );
        check(
            "card 4111 1111 1111 1111!",
            &[("CREDIT_CARD", "4111 1111 1111 1111")],
        );
        check("378282246310005", &[("CREDIT_CARD", "378282246310005")]);
        check("ssn 219-09-9999", &[("US_SSN", "219-09-9999")]);
        check("at 10.20.30.40:80", &[("IP_ADDRESS", "10.20.30.40")]);
        check(
            "at 2001:db8::ff00:42:8329",
            &[("IP_ADDRESS", "2001:db8::ff00:42:8329")],
        );
        check("call +49 171 2345678 or", &[("PHONE", "+49 171 2345678")]);
        check("(555) 123-4567", &[("PHONE", "(555) 123-4567")]);
        check("0171/2345678", &[("PHONE", "0171/2345678")]);
    }

    #[test]
    fn what_only_looks_like_it_is_left_alone() {
        for text in [
            "a@b",
            "DE89 3704 0044 0532 0130 01",
            "4111 1111 1111 1112",
            "000-12-3456 219-00-9999",
            "256.1.1.1",
            "12:30:45",
            "2024-01-02",
            "order 1234567890",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn only_the_chosen_kinds_are_looked_for() {
        let screen = screen(&[PiiKind::Phone]).unwrap();
        assert_eq!(screen.find("a@b.org +49 171 2345678", 0).len(), 1);
    }
}
