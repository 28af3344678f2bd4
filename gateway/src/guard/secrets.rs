//! Keys, tokens and passwords: by the beginnings that their issuers give them, and by what stands before them.

use super::screen::{Rule, Screen};

/// Bytes at the end of a streamed text that wait for what comes behind; longer than a private key.
const HOLD_BYTES_MAX: usize = 8 << 10;
/// Bits for each character from which on a text looks random.
const ENTROPY_MIN: f64 = 3.2;

/// What is found, and how it looks.
const PATTERNS: [(&str, &str); 16] = [
    (
        "PRIVATE_KEY",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s]|\\[nr])*(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    (
        "AWS_ACCESS_KEY",
        r"(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?-u:\b)",
    ),
    (
        "GITHUB_TOKEN",
        r"(?-u:\b)(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})",
    ),
    (
        "GITLAB_TOKEN",
        r"(?-u:\b)gl(?:pat|rt|ptt)-[A-Za-z0-9_-]{20,}",
    ),
    ("SLACK_TOKEN", r"(?-u:\b)xox[abeoprs]-[A-Za-z0-9-]{10,}"),
    (
        "SLACK_WEBHOOK",
        r"https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    ),
    (
        "API_KEY",
        r"(?-u:\b)sk-(?:ant-|proj-|svcacct-|or-)?[A-Za-z0-9_-]{20,}",
    ),
    ("GATEWAY_KEY", r"(?-u:\b)qd-[0-9a-f]{48}(?-u:\b)"),
    ("GOOGLE_API_KEY", r"(?-u:\b)AIza[A-Za-z0-9_-]{35}"),
    (
        "STRIPE_KEY",
        r"(?-u:\b)[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    ),
    ("HUGGING_FACE_TOKEN", r"(?-u:\b)hf_[A-Za-z0-9]{30,}"),
    ("NPM_TOKEN", r"(?-u:\b)npm_[A-Za-z0-9]{36}"),
    ("PYPI_TOKEN", r"(?-u:\b)pypi-[A-Za-z0-9_-]{50,}"),
    (
        "SENDGRID_KEY",
        r"(?-u:\b)SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    ),
    (
        "JWT",
        r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    ),
    (
        "URL_PASSWORD",
        r"(?-u:\b)[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:[^\s:/@]{3,128}@",
    ),
];
/// A word that names a secret, and what is given as it.
const NAMED: &str = r#"(?i-u:(?:api[_-]?key|access[_-]?key|secret|token|passwd|password|credential)s?)(?-u:["']?[ \t]{0,4}(?:[:=]{1,2}>?|is)[ \t]{0,4}["']?[A-Za-z0-9+/_.=~!-]{12,})"#;

/// Compiles the patterns.
///
/// # Errors
/// Never for these patterns.
pub(super) fn screen() -> Result<Screen, String> {
    let mut rules: Vec<Rule> = PATTERNS
        .iter()
        .map(|(kind, pattern)| Rule::new(kind, pattern))
        .collect();
    rules.push(Rule {
        check: random_value,
        ..Rule::new("SECRET", NAMED)
    });
    Screen::compile(rules, HOLD_BYTES_MAX)
}

/// Where the value begins, if it looks random: words of a language after the word "password" are none.
fn random_value(text: &str) -> Option<usize> {
    let is_part =
        |character: char| character.is_ascii_alphanumeric() || "+/_.~!-".contains(character);
    let value = text
        .trim_end_matches('=')
        .rsplit(|character| !is_part(character))
        .next()?;
    let has = |of: fn(&char) -> bool| value.chars().any(|character| of(&character));
    let is_random = has(char::is_ascii_digit)
        && has(char::is_ascii_alphabetic)
        && ENTROPY_MIN <= entropy(value);
    is_random.then(|| text.len() - (text.len() - text.trim_end_matches('=').len()) - value.len())
}

/// Shannon's entropy of a text's bytes, in bits for each of them.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let total = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let share = |count: &u32| f64::from(*count) / total;
    let there = counts.iter().filter(|count| 0 < **count);
    there.map(share).map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::screen;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        screen().unwrap().check(text, expected);
    }

    /// Put together here, so that no scanner takes this file for a leak.
    fn token(head: &str, length: usize) -> String {
        let letters = "a8Kd0Qz7Lw3Xv9Bn5Mj2Hs6Fg1Rt4Yp".chars().cycle();
        head.chars().chain(letters.take(length)).collect()
    }

    #[test]
    fn tokens_are_known_by_how_they_begin() {
        for (kind, head, length) in [
            ("GITHUB_TOKEN", "ghp_", 36),
            ("GITLAB_TOKEN", "glpat-", 20),
            ("SLACK_TOKEN", "xoxb-", 20),
            ("API_KEY", "sk-ant-", 40),
            ("API_KEY", "sk-proj-", 40),
            ("GOOGLE_API_KEY", "AIza", 35),
            ("STRIPE_KEY", "sk_live_", 24),
            ("HUGGING_FACE_TOKEN", "hf_", 34),
        ] {
            let token = token(head, length);
            check(&format!("use {token} here"), &[(kind, &token)]);
        }
        check(
            "AKIAIOSFODNN7EXAMPLE",
            &[("AWS_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE")],
        );
        let jwt = format!(
            "{}.{}.{}",
            token("eyJ", 12),
            token("eyJ", 20),
            token("", 30)
        );
        check(&jwt, &[("JWT", &jwt)]);
        check(
            "postgres://bob:hunter22@db/x",
            &[("URL_PASSWORD", "postgres://bob:hunter22@")],
        );
    }

    #[test]
    fn private_keys_are_found_to_their_end() {
        let begin = ["-----BEGIN RSA PRIVATE", " KEY-----"].concat();
        let end = ["-----END RSA PRIVATE", " KEY-----"].concat();
        for newline in ["\n", "\\n"] {
            let key = [&begin, newline, "MIIEow+/=", newline, &end].concat();
            check(&format!("a {key} b"), &[("PRIVATE_KEY", &key)]);
            let cut = [&begin, newline, "MIIEow"].concat();
            check(&cut, &[("PRIVATE_KEY", &cut)]);
        }
    }

    #[test]
    fn random_values_of_secrets_are_found_and_words_are_not() {
        let value = token("", 24);
        for before in [
            "password: ",
            "API_KEY=\"",
            "the token is ",
            "\"secret\": \"",
        ] {
            check(&format!("{before}{value}"), &[("SECRET", &value)]);
        }
        check(
            &format!("token={value}=="),
            &[("SECRET", &format!("{value}=="))],
        );
        check("password: correcthorsebattery", &[]);
        check("the token is aaaaaaaaaaaaaaaa1", &[]);
        check("the secret is out: 12 months", &[]);
    }
}
