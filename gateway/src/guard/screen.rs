//! A screen: the patterns of one guard, what of a text matches them, and what may still become a match.
//!
//! All expressions run in linear time. Those of one screen are also compiled together, once to learn quickly that a text
//! holds nothing, and once to ask whether the end of a text may be the beginning of a match.

use std::ops::Range;

use parking_lot::Mutex;
use protocol::snapshot::PATTERN_BYTES_MAX;
use regex_automata::{
    Anchored, Input,
    hybrid::{
        LazyStateID,
        dfa::{Cache, DFA},
    },
    meta,
    nfa::thompson,
    util::syntax,
};

/// Bytes of states that one partial match may hold.
const STATES_BYTES_MAX: usize = 4 << 20;

/// One pattern of a guard.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// What it finds, as `EMAIL`; stands in for what is masked.
    pub(super) kind: String,
    /// The expression.
    pub(super) pattern: String,
    /// Where in a match that what is looked for begins; `None` if the match is none after all.
    pub(super) check: fn(&str) -> Option<usize>,
}

/// A part of a text that a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Where the match begins that it is a part of.
    pub(super) begin: usize,
    /// Where it lies.
    pub(super) range: Range<usize>,
    /// The rule's place in the screen.
    pub(super) rule: usize,
}

/// The patterns of one guard.
#[derive(Debug)]
pub(super) struct Screen {
    rules: Vec<(Rule, meta::Regex)>,
    any: meta::Regex,
    partial: DFA,
    /// Memory of partial matches, lent to one text at a time.
    caches: Mutex<Vec<Cache>>,
    /// Bytes at the end of a text that are held back at most.
    hold_bytes_max: usize,
}

impl Rule {
    /// A rule whose every match is one.
    pub(super) fn new(kind: &str, pattern: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            pattern: pattern.to_owned(),
            check: |_| Some(0),
        }
    }
}

impl Screen {
    /// Compiles rules.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub(super) fn compile(rules: Vec<Rule>, hold_bytes_max: usize) -> Result<Self, String> {
        let patterns: Vec<String> = rules.iter().map(|rule| rule.pattern.clone()).collect();
        let one = |rule: Rule| {
            let regex = regex(std::slice::from_ref(&rule.pattern))?;
            if regex.is_match("") {
                return Err(format!("`{}` matches the empty text", rule.pattern));
            }
            Ok((rule, regex))
        };
        let partial = DFA::builder()
            .configure(
                DFA::config()
                    .unicode_word_boundary(true)
                    .cache_capacity(STATES_BYTES_MAX)
                    .skip_cache_capacity_check(true),
            )
            .thompson(limits(patterns.len()))
            .syntax(syntax::Config::new())
            .build_many(&patterns)
            .map_err(|error| with_cause(&error))?;
        Ok(Self {
            any: regex(&patterns)?,
            rules: rules.into_iter().map(one).collect::<Result<_, _>>()?,
            partial,
            caches: Mutex::default(),
            hold_bytes_max,
        })
    }

    /// The rule of a finding.
    pub(super) fn rule(&self, finding: &Finding) -> Option<&Rule> {
        self.rules.get(finding.rule).map(|(rule, _)| rule)
    }

    /// What is found from `from` on, in order and without overlaps: who begins first counts, then the order of rules.
    pub(super) fn find(&self, text: &str, from: usize) -> Vec<Finding> {
        if !self.any.is_match(Input::new(text).range(from..)) {
            return Vec::new();
        }
        let places = 0..self.rules.len();
        let mut next: Vec<_> = places.map(|place| self.first(place, text, from)).collect();
        let mut found: Vec<Finding> = Vec::new();
        // Of those that begin at one place, the first.
        while let Some(first) = next.iter().flatten().min_by_key(|finding| finding.begin) {
            let first = first.clone();
            let end = first.range.end;
            found.push(first);
            // What overlaps it is none, and hides nothing behind it.
            for (place, next) in next.iter_mut().enumerate() {
                if next.as_ref().is_some_and(|next| next.begin < end) {
                    *next = self.first(place, text, end);
                }
            }
        }
        found
    }

    /// What a rule finds first from `from` on.
    fn first(&self, place: usize, text: &str, mut from: usize) -> Option<Finding> {
        let (rule, regex) = self.rules.get(place)?;
        while from <= text.len() {
            let matched = regex.search(&Input::new(text).range(from..))?;
            if let Some(skipped) = text.get(matched.range()).and_then(rule.check) {
                return Some(Finding {
                    begin: matched.start(),
                    range: matched.start() + skipped..matched.end(),
                    rule: place,
                });
            }
            from = next_boundary(text, matched.start());
        }
        None
    }

    /// The first place from `from` on at which a match may begin that the text's end cuts off; the text's length if there
    /// is none. Everything before it is settled, whatever text comes behind.
    pub(super) fn settled(&self, text: &str, from: usize) -> usize {
        let oldest = text.len().saturating_sub(self.hold_bytes_max);
        let mut cache = self
            .caches
            .lock()
            .pop()
            .unwrap_or_else(|| self.partial.create_cache());
        let mut at = boundary_at_least(text, from.max(oldest));
        while at < text.len() && !self.may_begin(&mut cache, text, at) {
            at = next_boundary(text, at);
        }
        self.caches.lock().push(cache);
        at
    }

    /// Whether a match may begin here that the text's end cuts off. Where the automaton gives up, one may.
    fn may_begin(&self, cache: &mut Cache, text: &str, at: usize) -> bool {
        let input = Input::new(text).range(at..).anchored(Anchored::Yes);
        let Ok(mut state) = self.partial.start_state_forward(cache, &input) else {
            return true;
        };
        for byte in text.as_bytes().get(at..).unwrap_or_default() {
            let Ok(next) = self.partial.next_state(cache, state, *byte) else {
                return true;
            };
            if next.is_dead() {
                return false;
            }
            if next.is_quit() {
                return true;
            }
            state = next;
        }
        let ends = self.partial.next_eoi_state(cache, state);
        let ends = ends.is_ok_and(|state| state.is_match());
        let has_match = state.is_match() || ends;
        !has_match || (ends && self.depends(cache, state)) || self.goes_on(cache, state, 1)
    }

    /// Whether the match that ends with the text is one only before certain text, as one that ends where a word does.
    fn depends(&self, cache: &mut Cache, state: LazyStateID) -> bool {
        let mut units = self.partial.byte_classes().representatives(..);
        units.any(|unit| {
            let next = unit
                .as_u8()
                .map(|byte| self.partial.next_state(cache, state, byte));
            // Of what is not ASCII expressions that look for words know nothing.
            next.is_some_and(|next| next.map_or(true, |next| !next.is_match() && !next.is_quit()))
        })
    }

    /// Whether something can be added to a match. One is reported a byte late, so that byte tells nothing yet.
    fn goes_on(&self, cache: &mut Cache, state: LazyStateID, late: usize) -> bool {
        for unit in self.partial.byte_classes().representatives(..) {
            let Some(byte) = unit.as_u8() else { continue };
            let Ok(next) = self.partial.next_state(cache, state, byte) else {
                return true;
            };
            // Expressions that look for words give up at what is not ASCII, whether or not it matters.
            if next.is_dead() || next.is_quit() {
                continue;
            }
            let is_reported = next.is_match() && !state.is_match();
            if late == 0 || !is_reported || self.goes_on(cache, next, late - 1) {
                return true;
            }
        }
        false
    }
}

fn limits(patterns: usize) -> thompson::Config {
    thompson::Config::new().nfa_size_limit(Some(PATTERN_BYTES_MAX * patterns.max(1)))
}

fn regex(patterns: &[String]) -> Result<meta::Regex, String> {
    let config = meta::Config::new()
        .nfa_size_limit(Some(PATTERN_BYTES_MAX * patterns.len().max(1)))
        .hybrid_cache_capacity(STATES_BYTES_MAX);
    meta::Builder::new()
        .configure(config)
        .build_many(patterns)
        .map_err(|error| with_cause(&error))
}

/// The last cause of an error: those before it only tell that there is one.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// The next place after `at` where a character begins.
fn next_boundary(text: &str, at: usize) -> usize {
    boundary_at_least(text, at + 1)
}

fn boundary_at_least(text: &str, mut at: usize) -> usize {
    while at < text.len() && !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::{Finding, Rule, Screen};

    fn screen(patterns: &[&str]) -> Screen {
        let rules = patterns.iter().map(|pattern| Rule::new("X", pattern));
        Screen::compile(rules.collect(), 16).unwrap()
    }

    impl Screen {
        /// Finds these, of these kinds.
        #[track_caller]
        pub(in crate::guard) fn check(&self, text: &str, expected: &[(&str, &str)]) {
            let found = self.find(text, 0);
            let said = |found: &Finding| {
                let kind = self.rule(found).unwrap().kind.clone();
                (kind, &text[found.range.clone()])
            };
            let said: Vec<_> = found.iter().map(said).collect();
            let expected = expected
                .iter()
                .map(|(kind, text)| ((*kind).to_owned(), *text));
            assert_eq!(said, expected.collect::<Vec<_>>(), "{text}");
        }
    }

    #[track_caller]
    fn check(patterns: &[&str], text: &str, expected: &[&str]) {
        let found = screen(patterns).find(text, 0);
        let texts: Vec<&str> = found
            .iter()
            .map(|found| &text[found.range.clone()])
            .collect();
        assert_eq!(texts, expected, "{text}");
    }

    #[test]
    fn what_begins_first_is_found_and_then_what_stands_first() {
        check(&["b+", "[ab]+"], "xabb b", &["abb", "b"]);
        check(&["b", "[ab]b"], "ab bb", &["ab", "b", "b"]);
        check(&["1 2", "2 3|3 4"], "1 2 3 4", &["1 2", "3 4"]);
        check(&["ü"], "grün", &["ü"]);
        check(&["z"], "grün", &[]);
    }

    #[test]
    fn a_match_that_is_none_hides_no_other() {
        let never = Rule {
            check: |found| (found == "ok").then_some(1),
            ..Rule::new("X", "ok|[a-z]{3}")
        };
        let screen = Screen::compile(vec![never, Rule::new("Y", "abc")], 16).unwrap();
        let ranges = |text| -> Vec<_> {
            let found = screen.find(text, 0);
            found
                .into_iter()
                .map(|found| (found.range, found.rule))
                .collect()
        };
        assert_eq!(ranges("abc ok"), [(0..3, 1), (5..6, 0)]);
    }

    #[track_caller]
    fn check_settled(pattern: &str, text: &str, expected: &str) {
        assert_eq!(&text[..screen(&[pattern]).settled(text, 0)], expected);
    }

    #[test]
    fn what_may_become_a_match_is_not_settled() {
        check_settled("secret", "a secre", "a ");
        check_settled("secret", "a secrets", "a secret");
        check_settled("secret", "a secret", "a secret");
        check_settled("secret", "s se", "s ");
        check_settled(r"[a-z]+@[a-z]+", "mail to ab", "mail to ");
        check_settled(r"[a-z]+@[a-z]+", "mail to ab ", "mail to ab ");
        check_settled(r"[a-z]+@[a-z]+", "mail to ab@c", "mail to ");
        check_settled(r"\bab", "xa", "xa");
        check_settled(r"ab\b", "xab", "x");
        check_settled(r"ab(?-u:\b)", "xab", "x");
        check_settled(r"ab\b", "xab ", "xab ");
        check_settled("ab$", "xab", "x");
        check_settled("grün", "am gr", "am ");
        // Not more than the bound is held.
        let long = "a0123456789012345";
        check_settled("a.*b", &long[..16], "");
        check_settled("a.*b", long, long);
    }

    #[test]
    fn what_matches_nothing_in_particular_is_refused() {
        let refused =
            |pattern: &str| Screen::compile(vec![Rule::new("X", pattern)], 16).unwrap_err();
        assert_eq!(refused("a*"), "`a*` matches the empty text");
        assert!(refused("(a").contains("unclosed group"));
        assert!(
            refused(r"\w{9999}").contains("exceed"),
            "{}",
            refused(r"\w{9999}")
        );
    }
}
