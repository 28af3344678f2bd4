//! `Retry-After`: when an upstream wants to be asked again. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};
use jiff::Timestamp;

/// Milliseconds, as OpenAI and Azure tell them beside the whole seconds.
const MILLIS: HeaderName = HeaderName::from_static("retry-after-ms");
/// The longest time that is believed: limits are lifted earlier than their servers say.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The time until then, if an answer's headers tell it: milliseconds, seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok();
    let seconds = match text(&MILLIS).and_then(number) {
        Some(millis) => millis / 1000.0,
        None => {
            let given = text(&header::RETRY_AFTER)?;
            let date = || {
                let date = jiff::fmt::rfc2822::parse(given).ok()?.timestamp();
                Some((date.as_millisecond() - now.as_millisecond()) as f64 / 1000.0)
            };
            number(given).or_else(date)?
        }
    };
    let seconds = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
    Some(seconds.min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};
    use jiff::Timestamp;

    use super::{WAIT_MAX, retry_after};

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], expected: Option<Duration>) {
        let given: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        assert_eq!(retry_after(&given, now), expected, "{headers:?}");
    }

    #[test]
    fn a_wait_is_read_in_every_form() {
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        check(&[("retry-after", "7")], seconds(7.0));
        check(&[("retry-after", " 0.5 ")], seconds(0.5));
        check(
            &[("retry-after", "2"), ("retry-after-ms", "1500")],
            seconds(1.5),
        );
        check(
            &[("retry-after", "Wed, 21 Oct 2015 07:28:09 GMT")],
            seconds(9.0),
        );
        check(
            &[("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT")],
            seconds(0.0),
        );
        check(&[("retry-after", "86400")], Some(WAIT_MAX));
        check(&[("retry-after", "soon")], None);
        check(&[("retry-after", "NaN")], seconds(0.0));
        check(&[], None);
    }
}
