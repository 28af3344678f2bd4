//! Patterns: names of models and tools, exact or with one star at an end. Pure.

use thiserror::Error;

use super::InvalidSnapshot;

/// A model name, or all that begin or end alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Exactly this name.
    Exact(String),
    /// Every name that begins so.
    Prefix(String),
    /// Every name that ends so.
    Suffix(String),
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` has a `*` elsewhere than at its beginning or its end")]
pub(crate) struct InvalidPattern(String);

impl InvalidPattern {
    /// The same, of a route.
    pub(crate) fn of(self, route: &str) -> InvalidSnapshot {
        InvalidSnapshot::Pattern {
            route: route.to_owned(),
            pattern: self.0,
        }
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A star is elsewhere than at one end.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (_, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            (Some(suffix), None) => Self::Suffix(suffix.to_owned()),
            (None, None) => Self::Exact(text.to_owned()),
        };
        let (Self::Exact(rest) | Self::Prefix(rest) | Self::Suffix(rest)) = &pattern;
        if rest.contains('*') {
            return Err(InvalidPattern(text.to_owned()));
        }
        Ok(pattern)
    }

    /// Whether the pattern answers this name.
    pub(crate) fn matches(&self, model: &str) -> bool {
        match self {
            Self::Exact(name) => name == model,
            Self::Prefix(prefix) => model.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => model.ends_with(suffix.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidPattern, Pattern};

    #[track_caller]
    fn check(pattern: &str, model: &str, expected: bool) {
        assert_eq!(
            Pattern::parse(pattern).unwrap().matches(model),
            expected,
            "{pattern} on {model}"
        );
    }

    #[test]
    fn a_star_stands_for_anything_at_one_end() {
        check("gpt", "gpt", true);
        check("gpt", "gpt-4", false);
        check("gpt-*", "gpt-4", true);
        check("gpt-*", "gpt-", true);
        check("gpt-*", "my-gpt-4", false);
        check("*-mini", "gpt-mini", true);
        check("*-mini", "mini", false);
        check("*", "anything", true);
        for pattern in ["a*b", "*a*", "**"] {
            let expected = InvalidPattern(pattern.to_owned());
            assert_eq!(Pattern::parse(pattern), Err(expected));
        }
    }
}
