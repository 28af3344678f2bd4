//! Resource quantities: `100m`, `1Gi`, `2e3`, compared and printed canonically.

use std::cmp::Ordering;
use std::fmt;

/// The family of suffixes that a quantity was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// An amount, kept in billionths so that every legal quantity is exact.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANOS: i128 = 1_000_000_000;

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Quantity {
    /// Reads a quantity; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = match text.as_bytes().first()? {
            b'-' => (-1, text.get(1..)?),
            b'+' => (1, text.get(1..)?),
            _ => (1, text),
        };
        let split = digits
            .find(|symbol: char| !symbol.is_ascii_digit() && symbol != '.')
            .unwrap_or(digits.len());
        let (number, suffix) = digits.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let (format, numerator, denominator) = scale(suffix)?;
        let mut value: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let mut divisor: i128 = denominator;
        for digit in fraction.chars().take(18) {
            value = value
                .checked_mul(10)?
                .checked_add(i128::from(digit.to_digit(10)?))?;
            divisor = divisor.checked_mul(10)?;
        }
        let scaled = value.checked_mul(numerator)?.checked_mul(NANOS)?;
        // What is finer than a billionth is rounded up, away from zero.
        let nanos = scaled.checked_add(divisor - 1)? / divisor;
        Some(Self {
            nanos: sign * nanos,
            format,
        })
    }

    /// The amount in thousandths, rounded up.
    pub fn millis(&self) -> i128 {
        let thousandth = NANOS / 1000;
        self.nanos.div_euclid(thousandth) + i128::from(self.nanos.rem_euclid(thousandth) != 0)
    }

    /// The amount in whole units, rounded up.
    pub fn units(&self) -> i128 {
        self.nanos.div_euclid(NANOS) + i128::from(self.nanos.rem_euclid(NANOS) != 0)
    }
}

/// Numerator and denominator that a suffix stands for.
fn scale(suffix: &str) -> Option<(Format, i128, i128)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const BIG: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    const SMALL: [&str; 3] = ["m", "u", "n"];
    if suffix.is_empty() {
        return Some((Format::Decimal, 1, 1));
    }
    if let Some(at) = BINARY.iter().position(|one| *one == suffix) {
        return Some((Format::Binary, 1_i128 << (10 * (at + 1)), 1));
    }
    if let Some(at) = BIG.iter().position(|one| *one == suffix) {
        return Some((
            Format::Decimal,
            1000_i128.pow(u32::try_from(at).ok()? + 1),
            1,
        ));
    }
    if let Some(at) = SMALL.iter().position(|one| *one == suffix) {
        return Some((
            Format::Decimal,
            1,
            1000_i128.pow(u32::try_from(at).ok()? + 1),
        ));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 {
        (Format::Exponent, 1, power)
    } else {
        (Format::Exponent, power, 1)
    })
}

impl fmt::Display for Quantity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.nanos.abs();
        if self.nanos < 0 {
            out.write_str("-")?;
        }
        if self.nanos == 0 {
            return out.write_str("0");
        }
        if self.format == Format::Binary && magnitude % NANOS == 0 && magnitude / NANOS >= 1024 {
            return binary(out, magnitude / NANOS);
        }
        let steps: [(&str, &str, i128); 10] = [
            ("E", "e18", NANOS * 1_000_000_000_000_000_000),
            ("P", "e15", NANOS * 1_000_000_000_000_000),
            ("T", "e12", NANOS * 1_000_000_000_000),
            ("G", "e9", NANOS * 1_000_000_000),
            ("M", "e6", NANOS * 1_000_000),
            ("k", "e3", NANOS * 1000),
            ("", "", NANOS),
            ("m", "e-3", NANOS / 1000),
            ("u", "e-6", 1000),
            ("n", "e-9", 1),
        ];
        for (decimal, exponent, unit) in steps {
            if magnitude % unit == 0 {
                let suffix = if self.format == Format::Exponent {
                    exponent
                } else {
                    decimal
                };
                return write!(out, "{}{suffix}", magnitude / unit);
            }
        }
        Ok(())
    }
}

fn binary(out: &mut fmt::Formatter<'_>, units: i128) -> fmt::Result {
    for (at, suffix) in ["Ei", "Pi", "Ti", "Gi", "Mi", "Ki"].iter().enumerate() {
        let unit = 1_i128 << (10 * (6 - at));
        if units % unit == 0 {
            return write!(out, "{}{suffix}", units / unit);
        }
    }
    write!(out, "{units}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(
            Quantity::parse(text).map(|quantity| quantity.to_string()),
            Some(expected.to_owned())
        );
    }

    #[test]
    fn quantities_print_canonically() {
        check("0", "0");
        check("1", "1");
        check("1000m", "1");
        check("100m", "100m");
        check("0.1", "100m");
        check("1500m", "1500m");
        check("1024Mi", "1Gi");
        check("1.5Gi", "1536Mi");
        check("512", "512");
        check("1000", "1k");
        check("1e3", "1e3");
        check("12E", "12E");
        check("-1Ki", "-1Ki");
        check(".5", "500m");
        check("1n", "1n");
        check("0.1n", "1n");
    }

    #[test]
    fn quantities_compare_across_suffixes() {
        let parse = |text| Quantity::parse(text).unwrap();
        assert!(parse("1Gi") > parse("1G"));
        assert_eq!(parse("1000m"), parse("1"));
        assert_eq!(parse("100m").millis(), 100);
        assert_eq!(parse("100m").units(), 1);
        assert_eq!(parse("1Ki").units(), 1024);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "x", "1x", "1.2.3", "--1", "1Kii", "Ki"] {
            assert!(Quantity::parse(text).is_none(), "{text}");
        }
    }
}
