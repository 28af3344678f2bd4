//! Kubernetes quantities as integers.

/// The value in thousandths, rounded up; `None` where the text is no quantity.
pub(crate) fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (scale, divide): (i128, i128) = match suffix {
        "" => (1000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        "Ei" => (1000 << 60, 1),
        _ => (power_of_ten(suffix)?, 1),
    };
    let negative = number.starts_with('-');
    let number = number.trim_start_matches(['-', '+']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(12)];
    let ten = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(scale)?;
    let below = ten * divide;
    let value = scaled / below + i128::from(scaled % below != 0);
    Some(if negative { -value } else { value })
}

/// The value in whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<u64> {
    let milli = milli(text)?;
    u64::try_from(milli / 1000 + i128::from(milli % 1000 > 0)).ok()
}

fn power_of_ten(suffix: &str) -> Option<i128> {
    let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    1000_i128.checked_mul(10_i128.checked_pow(exponent)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<i128>) {
        assert_eq!(milli(text), expected, "{text}");
    }

    #[test]
    fn quantities_read_as_kubernetes_writes_them() {
        check("500m", Some(500));
        check("2", Some(2000));
        check("0.5", Some(500));
        check("1.5Gi", Some(1_610_612_736_000));
        check("128Mi", Some(134_217_728_000));
        check("1e3", Some(1_000_000));
        check("100n", Some(1));
        check("-1", Some(-1000));
        check("", None);
        check("lots", None);
        check("1Qi", None);
    }
}
