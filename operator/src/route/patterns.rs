//! Model names and the patterns that match them.

use std::cmp::Reverse;

/// Whether a pattern matches a model's name: exact, or with one leading or trailing `*`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => name.ends_with(suffix),
        (None, Some(prefix)) => name.starts_with(prefix),
        (None, None) => pattern == name,
    }
}

/// How exact a pattern is; the smallest comes first.
pub(super) fn rank(pattern: &str) -> (bool, Reverse<usize>) {
    (pattern.contains('*'), Reverse(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::{matches, rank};

    #[track_caller]
    fn check(pattern: &str, name: &str, expected: bool) {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }

    #[test]
    fn a_star_takes_all_that_starts_or_ends_so() {
        check("gpt-4o", "gpt-4o", true);
        check("gpt-4o", "gpt-4o-mini", false);
        check("gpt-*", "gpt-4o", true);
        check("gpt-*", "chat", false);
        check("*-mini", "gpt-4o-mini", true);
        check("*-mini", "gpt-4o", false);
        check("*", "anything", true);
    }

    #[test]
    fn the_most_exact_pattern_comes_first() {
        let mut patterns = ["*", "gpt-*", "gpt-4o-*", "gpt-4o", "a"];
        patterns.sort_by_key(|pattern| rank(pattern));
        assert_eq!(patterns, ["gpt-4o", "a", "gpt-4o-*", "gpt-*", "*"]);
    }
}
