//! Allowances: what a key, a team, a user or a tag may use and spend.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use thiserror::Error;

use crate::snapshot::Mode;

/// Nano-dollars in a dollar.
const NANOS: u64 = 1_000_000_000;
/// Digits behind a dollar's point.
const DECIMALS: usize = 9;
/// The longest window.
const WINDOW_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// What somebody may use and spend; what is empty is not restricted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allowance {
    /// Model names: exact, or with one leading or trailing `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Money.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// Requests and tokens in a time, and requests at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// Of a key: models that are asked when the one that a request names gives no answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
}

/// What may be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// How much.
    pub amount: Dollars,
    /// After which time all of it is there again; never if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The models that count, a name or a pattern; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What happens when it is spent.
    #[serde(default, skip_serializing_if = "is_enforced")]
    pub mode: Mode,
}

/// What is given in a time, and at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Requests in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Rate>,
    /// Tokens of prompts and answers in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Rate>,
    /// Requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// The models that count, a name or a pattern; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What happens when it is reached.
    #[serde(default, skip_serializing_if = "is_enforced")]
    pub mode: Mode,
}

/// So many in a time; they come back evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many; after a pause all at once.
    pub limit: u64,
    /// The time.
    pub window: Window,
}

/// Money in US dollars, written as `"12.5"`; numbers are read too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(u64);

/// A time after which something begins anew: `30s`, `1m`, `24h`, `7d`, or `1mo` for a calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// At the multiples of this time since 1970.
    Every(Duration),
    /// At the first of each month.
    Month,
}

/// What cannot be read as an amount or a window.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAllowance {
    /// No amount of money.
    #[error("`{0}` is no amount; write US dollars with at most nine decimals, as \"12.5\"")]
    Dollars(String),
    /// A pattern with a star in the middle, or more than one.
    #[error("`{0}` has a `*` elsewhere than at its beginning or its end")]
    Pattern(String),
    /// Two budgets or two limits that nothing tells apart.
    #[error("two {0} have the same window and the same model; keep one of them")]
    Twice(&'static str),
    /// A limit of nothing.
    #[error("a limit needs `requests`, `tokens` or `concurrency`")]
    Empty,
    /// No time.
    #[error("`{0}` is no window; write a time as 30s, 5m, 24h or 30d, or 1mo for calendar months")]
    Window(String),
}

impl Allowance {
    /// Whether nothing is restricted.
    pub const fn is_empty(&self) -> bool {
        self.models.is_empty()
            && self.budgets.is_empty()
            && self.limits.is_empty()
            && self.fallbacks.is_empty()
    }

    /// Checks that a gateway can use it.
    ///
    /// # Errors
    /// A model is no pattern, two budgets or limits cannot be told apart, or a limit limits nothing.
    pub fn check(&self) -> Result<(), InvalidAllowance> {
        let Self {
            models,
            budgets,
            limits,
            fallbacks: _,
        } = self;
        let of_budgets = budgets.iter().filter_map(|budget| budget.model.as_ref());
        let of_limits = limits.iter().filter_map(|limit| limit.model.as_ref());
        for model in models.iter().chain(of_budgets).chain(of_limits) {
            let inner = model.strip_suffix('*').or(model.strip_prefix('*'));
            if inner.unwrap_or(model).contains('*') {
                return Err(InvalidAllowance::Pattern(model.clone()));
            }
        }
        let budgets = budgets
            .iter()
            .map(|budget| (budget.window, &budget.model, budget.mode));
        if repeats(budgets) {
            return Err(InvalidAllowance::Twice("budgets"));
        }
        let rates = |of: fn(&Limit) -> Option<Option<Window>>| {
            repeats(
                limits
                    .iter()
                    .filter_map(|limit| Some((of(limit)?, &limit.model, limit.mode))),
            )
        };
        if rates(|limit| limit.requests.map(|rate| Some(rate.window)))
            || rates(|limit| limit.tokens.map(|rate| Some(rate.window)))
            || rates(|limit| limit.concurrency.map(|_| None))
        {
            return Err(InvalidAllowance::Twice("limits"));
        }
        let is_empty = |limit: &Limit| {
            limit.requests.is_none() && limit.tokens.is_none() && limit.concurrency.is_none()
        };
        match limits.iter().any(is_empty) {
            true => Err(InvalidAllowance::Empty),
            false => Ok(()),
        }
    }
}

/// Whether something is there twice. Lists are short.
fn repeats<T: PartialEq>(list: impl Iterator<Item = T>) -> bool {
    let mut seen = Vec::new();
    for item in list {
        if seen.contains(&item) {
            return true;
        }
        seen.push(item);
    }
    false
}

fn is_enforced(mode: &Mode) -> bool {
    *mode == Mode::Enforce
}

impl Dollars {
    /// So many nano-dollars.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nano-dollars.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The amount that a floating-point number of dollars is closest to; `None` below zero and beyond all bounds.
    pub fn from_float(dollars: f64) -> Option<Self> {
        let nanos = (dollars * NANOS as f64).round();
        (0.0..=u64::MAX as f64)
            .contains(&nanos)
            .then_some(Self(nanos as u64))
    }
}

impl FromStr for Dollars {
    type Err = InvalidAllowance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let nanos = (!whole.is_empty() && is_digits(whole) && is_digits(decimals))
            .then(|| format!("{whole}{decimals:0<DECIMALS$}").parse().ok())
            .filter(|_| decimals.len() <= DECIMALS)
            .flatten();
        nanos
            .map(Self)
            .ok_or_else(|| InvalidAllowance::Dollars(text.to_owned()))
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / NANOS, self.0 % NANOS);
        let text = format!("{whole}.{rest:09}");
        formatter.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text or a number, as people write amounts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(u64),
    Number(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Written::deserialize(deserializer)? {
            Written::Whole(number) => number.to_string(),
            Written::Text(text) => text,
            Written::Number(number) => {
                let unread = || InvalidAllowance::Dollars(number.to_string());
                return Self::from_float(number)
                    .ok_or_else(unread)
                    .map_err(D::Error::custom);
            }
        };
        text.parse().map_err(D::Error::custom)
    }
}

/// Units of windows, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
];

impl FromStr for Window {
    type Err = InvalidAllowance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "1mo" {
            return Ok(Self::Month);
        }
        let split = text.find(|character: char| !character.is_ascii_digit());
        let read = split.and_then(|split| {
            let (digits, unit) = text.split_at_checked(split)?;
            let (_, millis) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
            digits.parse::<u64>().ok()?.checked_mul(millis)
        });
        read.map(Duration::from_millis)
            .filter(|time| !time.is_zero() && *time <= WINDOW_MAX)
            .map(Self::Every)
            .ok_or_else(|| InvalidAllowance::Window(text.to_owned()))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Every(time) = self else {
            return formatter.write_str("1mo");
        };
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // Weeks are read, and told in days.
        let fits = |unit: &&(&str, u64)| millis % unit.1 == 0;
        match UNITS[1..].iter().find(fits) {
            Some((unit, length)) => write!(formatter, "{}{unit}", millis / length),
            None => write!(formatter, "{time:?}"),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Allowance, Dollars, InvalidAllowance, Window};

    #[track_caller]
    fn check_amount(json: &str, expected: Option<(u64, &str)>) {
        let read = serde_json::from_str::<Dollars>(json).ok();
        let told = read.map(|amount| (amount.nanos(), amount.to_string()));
        let told = told.as_ref().map(|(nanos, text)| (*nanos, text.as_str()));
        assert_eq!(told, expected, "{json}");
    }

    #[test]
    fn amounts_are_dollars_as_people_write_them() {
        check_amount(r#""12.5""#, Some((12_500_000_000, "12.5")));
        check_amount("12.5", Some((12_500_000_000, "12.5")));
        check_amount("7", Some((7_000_000_000, "7")));
        check_amount("1e-7", Some((100, "0.0000001")));
        check_amount(r#""0.000000001""#, Some((1, "0.000000001")));
        for wrong in [
            "-1",
            r#""0.0000000001""#,
            r#""""#,
            r#"".5""#,
            r#""1 USD""#,
            "1e300",
            "null",
        ] {
            check_amount(wrong, None);
        }
    }

    #[track_caller]
    fn check_allowance(json: &str, expected: &Result<(), InvalidAllowance>) {
        let allowance: Allowance = serde_json::from_str(json).unwrap();
        assert_eq!(&allowance.check(), expected, "{json}");
    }

    #[test]
    fn an_allowance_that_no_gateway_can_use_is_known() {
        check_allowance("{}", &Ok(()));
        let fine = r#"{"models": ["a", "b-*", "*-c", "*"], "budgets": [{"amount": 1}, {"amount": 1, "window": "1h"},
            {"amount": 1, "model": "m"}, {"amount": 1, "mode": "Shadow"}], "limits": [{"concurrency": 1},
            {"requests": {"limit": 1, "window": "1s"}}, {"requests": {"limit": 9, "window": "1m"}}]}"#;
        check_allowance(fine, &Ok(()));
        let pattern = |text: &str| Err(InvalidAllowance::Pattern(text.to_owned()));
        check_allowance(r#"{"models": ["a*b"]}"#, &pattern("a*b"));
        check_allowance(r#"{"models": ["*a*"]}"#, &pattern("*a*"));
        check_allowance(
            r#"{"limits": [{"concurrency": 1, "model": "**"}]}"#,
            &pattern("**"),
        );
        let twice =
            r#"{"budgets": [{"amount": 1, "window": "60m"}, {"amount": 2, "window": "1h"}]}"#;
        check_allowance(twice, &Err(InvalidAllowance::Twice("budgets")));
        let twice = r#"{"limits": [{"concurrency": 1}, {"concurrency": 2}]}"#;
        check_allowance(twice, &Err(InvalidAllowance::Twice("limits")));
        check_allowance(r#"{"limits": [{}]}"#, &Err(InvalidAllowance::Empty));
    }

    #[track_caller]
    fn check_window(text: &str, expected: Option<(Window, &str)>) {
        let read = text.parse::<Window>().ok();
        let told = read.map(|window| (window, window.to_string()));
        let told = told.as_ref().map(|(window, text)| (*window, text.as_str()));
        assert_eq!(told, expected, "{text}");
    }

    #[test]
    fn windows_are_times_or_calendar_months() {
        let every = |seconds| Window::Every(Duration::from_secs(seconds));
        check_window("30s", Some((every(30), "30s")));
        check_window("60m", Some((every(3600), "1h")));
        check_window("24h", Some((every(86_400), "1d")));
        check_window("1w", Some((every(604_800), "7d")));
        check_window("1mo", Some((Window::Month, "1mo")));
        for wrong in [
            "",
            "0s",
            "5",
            "h",
            "1.5h",
            "-1h",
            "1y",
            "99999999d",
            "1h30m",
        ] {
            check_window(wrong, None);
        }
    }
}
