//! Wall-clock time as the log stores it: milliseconds since the Unix epoch.

use jiff::Timestamp;

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) i64);

impl Millis {
    pub(crate) fn now() -> Self {
        Self(Timestamp::now().as_millisecond())
    }

    /// RFC 3339, in UTC.
    pub(crate) fn to_rfc3339(self) -> String {
        Timestamp::from_millisecond(self.0)
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_string()
    }

    pub(crate) const fn as_seconds(self) -> i64 {
        self.0 / 1000
    }
}
