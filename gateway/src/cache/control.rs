//! What a request's `Cache-Control` says about answers that are given again.

use std::time::Duration;

use http::{HeaderMap, header};

/// What a client allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Control {
    /// Whether the answer may be kept.
    pub(super) may_keep: bool,
    /// Whether a kept answer will do.
    pub(super) takes_kept: bool,
    /// How old a kept answer may be.
    pub(super) age_max: Duration,
}

impl Control {
    /// Reads the header; what it does not know is of no concern here.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut control = Self {
            may_keep: true,
            takes_kept: true,
            age_max: Duration::MAX,
        };
        let values = headers.get_all(header::CACHE_CONTROL).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        for directive in texts.flat_map(|text| text.split(',')) {
            let directive = directive.trim().to_ascii_lowercase();
            match directive.split_once('=').unwrap_or((&directive, "")) {
                ("no-store", _) => control.may_keep = false,
                ("no-cache", _) => control.takes_kept = false,
                ("max-age", seconds) => {
                    // An age that is no number allows none.
                    let seconds = seconds.trim_matches('"').parse().unwrap_or(0);
                    control.age_max = control.age_max.min(Duration::from_secs(seconds));
                }
                _ => {}
            }
        }
        control
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, header};

    use super::Control;

    #[track_caller]
    fn check(values: &[&'static str], expected: (bool, bool, Duration)) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CACHE_CONTROL, HeaderValue::from_static(value));
        }
        let Control {
            may_keep,
            takes_kept,
            age_max,
        } = Control::of(&headers);
        assert_eq!((may_keep, takes_kept, age_max), expected, "{values:?}");
    }

    #[test]
    fn clients_say_what_they_allow() {
        check(&[], (true, true, Duration::MAX));
        check(&["no-store"], (false, true, Duration::MAX));
        check(&["No-Cache"], (true, false, Duration::MAX));
        check(&["x, max-age=7"], (true, true, Duration::from_secs(7)));
        check(
            &["max-age=\"7\"", "max-age=9"],
            (true, true, Duration::from_secs(7)),
        );
        check(&["max-age=soon"], (true, true, Duration::ZERO));
        check(&["no-cache", "no-store"], (false, false, Duration::MAX));
    }
}
