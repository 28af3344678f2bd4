//! The time, in the forms that the API writes.

use jiff::Timestamp;

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    Timestamp::now().as_second()
}

/// Now, to the second, as objects carry it.
pub(crate) fn now() -> String {
    format(unix_seconds())
}

/// A time in seconds since 1970, as objects carry it.
pub(crate) fn format(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .unwrap_or_default()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// Seconds since 1970 of a time as objects carry it.
pub(crate) fn parse(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}
