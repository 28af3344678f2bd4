//! Names of models at targets that answer many: what the star of a route's pattern stood for takes the place of the star
//! in the target's name. Pure.
//!
//! What takes the place is a client's word and may end in a path, a form or a header: it is refused unless it looks like
//! a model's name.

use std::borrow::Cow;

use super::{InvalidSnapshot, Pattern};

/// The star.
const STAR: char = '*';
/// Bytes of what takes its place.
const NAME_BYTES_MAX: usize = 256;
/// What a model's name may hold besides letters and digits.
const MARKS: &[u8] = b"-._~:/@+,";

/// What a target with many models makes of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The name as it was asked for.
    Whole,
    /// What the star of the pattern stood for, between these.
    Starred {
        /// What comes before it.
        before: String,
        /// What comes after it.
        after: String,
    },
}

/// A name that makes no name of a model at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unnamable;

impl Naming {
    /// What a target's name for its model says: it may be empty, or have a star; `None` for a plain one.
    ///
    /// # Errors
    /// There is more than one star.
    pub(super) fn of(
        route: &str,
        target: &str,
        model: &str,
    ) -> Result<Option<Self>, InvalidSnapshot> {
        if model.is_empty() {
            return Ok(Some(Self::Whole));
        }
        let Some((before, after)) = model.split_once(STAR) else {
            return Ok(None);
        };
        if after.contains(STAR) {
            return Err(InvalidSnapshot::Stars {
                route: route.to_owned(),
                target: target.to_owned(),
                model: model.to_owned(),
            });
        }
        Ok(Some(Self::Starred {
            before: before.to_owned(),
            after: after.to_owned(),
        }))
    }

    /// The model's name for a request that asked a route with these patterns for a name.
    ///
    /// # Errors
    /// [`Unnamable`]
    pub(super) fn name(&self, patterns: &[Pattern], asked: &str) -> Result<String, Unnamable> {
        let word = match self {
            Self::Whole => Some(asked),
            Self::Starred { .. } => starred(patterns, asked),
        };
        let word = word.filter(|word| is_name(word)).ok_or(Unnamable)?;
        Ok(match self {
            Self::Whole => word.to_owned(),
            Self::Starred { before, after } => [before, word, after].concat(),
        })
    }
}

/// What the star stands for: all of a name that is matched exactly, and of several patterns that of the most exact one.
fn starred<'n>(patterns: &[Pattern], asked: &'n str) -> Option<&'n str> {
    let mut exact = patterns.iter().filter_map(|pattern| match pattern {
        Pattern::Exact(name) => (name == asked).then_some(asked),
        Pattern::Prefix(_) | Pattern::Suffix(_) => None,
    });
    exact.next().or_else(|| {
        let stars = patterns.iter().filter_map(|pattern| match pattern {
            Pattern::Exact(_) => None,
            Pattern::Prefix(prefix) => asked.strip_prefix(prefix.as_str()),
            Pattern::Suffix(suffix) => asked.strip_suffix(suffix.as_str()),
        });
        stars.min_by_key(|star| star.len())
    })
}

/// Whether a client's word looks like a model's name, and leads out of no path.
fn is_name(word: &str) -> bool {
    let mut bytes = word.bytes();
    let mut parts = word.split('/');
    !word.is_empty()
        && word.len() <= NAME_BYTES_MAX
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(&byte))
        && parts.all(|part| !matches!(part, "" | "." | ".."))
}

/// The model's name at a target: its own, or what a naming makes of the name that was asked for.
pub(super) fn name_at<'t>(
    (model, naming): (&'t str, Option<&Naming>),
    patterns: &[Pattern],
    asked: &str,
) -> Result<Cow<'t, str>, Unnamable> {
    match naming {
        None => Ok(Cow::Borrowed(model)),
        Some(naming) => naming.name(patterns, asked).map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::{NAME_BYTES_MAX, Naming, Unnamable};
    use crate::table::{InvalidSnapshot, Pattern};

    #[track_caller]
    fn check(patterns: &[&str], model: &str, asked: &str, expected: Option<&str>) {
        let patterns = patterns.iter().map(|pattern| Pattern::parse(pattern));
        let patterns: Vec<Pattern> = patterns.collect::<Result<_, _>>().unwrap();
        let naming = Naming::of("ns/r", "t", model).unwrap().unwrap();
        let expected = expected.map(str::to_owned).ok_or(Unnamable);
        assert_eq!(naming.name(&patterns, asked), expected, "{asked}");
    }

    #[test]
    fn a_star_stands_for_what_the_most_exact_pattern_left_open() {
        check(&["openai/*"], "*", "openai/gpt-4o", Some("gpt-4o"));
        check(
            &["fireworks/*"],
            "accounts/fireworks/models/*",
            "fireworks/glm-4p6",
            Some("accounts/fireworks/models/glm-4p6"),
        );
        check(&["*-eu"], "eu.*-v1:0", "nova-eu", Some("eu.nova-v1:0"));
        check(&["*"], "*", "org/model:7b@2", Some("org/model:7b@2"));
        check(&["*", "a/*"], "*", "a/b", Some("b"));
        check(&["gpt-*", "gpt-4o"], "*", "gpt-4o", Some("gpt-4o"));
        check(&["a/*"], "*", "b/c", None);
    }

    #[test]
    fn no_name_at_the_target_stands_for_the_one_that_was_asked_for() {
        check(&["openai/*"], "", "openai/gpt-4o", Some("openai/gpt-4o"));
        check(&["llama"], "", "llama", Some("llama"));
        check(&["*"], "", "a/../b", None);
        check(&["*"], "", "", None);
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        for star in [
            "", ".", "..", "a/../b", "../b", "a/..", "/a", "a//b", "a/", "a?b", "a#b", "a%2e",
            "a b", "a\\b", "a\"b", "a\r\nb", "a*", "ü",
        ] {
            check(&["p/*"], "x/*", &format!("p/{star}"), None);
        }
        let longest = "a".repeat(NAME_BYTES_MAX);
        check(&["*"], "*", &longest, Some(&longest));
        check(&["*"], "*", &"a".repeat(NAME_BYTES_MAX + 1), None);
    }

    #[test]
    fn a_name_has_one_star_at_most() {
        assert_eq!(Naming::of("ns/r", "t", "plain"), Ok(None));
        let twice = Naming::of("ns/r", "t", "*/*");
        assert!(matches!(twice, Err(InvalidSnapshot::Stars { .. })));
    }
}
