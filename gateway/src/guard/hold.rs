//! Hold-back: a text that comes in pieces is passed on as far as it is settled; the rest waits for what comes behind.

use super::screen::{Finding, Screen};

/// What becomes of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays.
    Keep,
    /// This comes in its place.
    Replace(String),
    /// Nothing more is passed on.
    Block,
}

/// A finding that blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocked;

/// One text on its way through one screen.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// The last character that was passed on, for expressions that look back, and what is held.
    text: String,
    /// Where what is held begins.
    begin: usize,
}

impl Hold {
    /// Takes a piece of the text; returns what is settled now.
    ///
    /// # Errors
    /// [`Blocked`].
    pub(super) fn push(
        &mut self,
        screen: &Screen,
        piece: &str,
        judge: &mut dyn FnMut(&Finding, &str) -> Verdict,
    ) -> Result<String, Blocked> {
        self.text.push_str(piece);
        let settled = screen.settled(&self.text, self.begin);
        self.pass(screen, settled, judge)
    }

    /// Ends the text; returns the rest.
    ///
    /// # Errors
    /// [`Blocked`].
    pub(super) fn finish(
        &mut self,
        screen: &Screen,
        judge: &mut dyn FnMut(&Finding, &str) -> Verdict,
    ) -> Result<String, Blocked> {
        let rest = self.pass(screen, self.text.len(), judge);
        *self = Self::default();
        rest
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.begin == self.text.len()
    }

    /// Passes on what lies before `settled`, and findings that begin there with all that belongs to them.
    fn pass(
        &mut self,
        screen: &Screen,
        settled: usize,
        judge: &mut dyn FnMut(&Finding, &str) -> Verdict,
    ) -> Result<String, Blocked> {
        let mut passed = String::new();
        let mut at = self.begin;
        let between = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        for finding in screen.find(&self.text, self.begin) {
            let range = finding.range.clone();
            if settled <= finding.begin {
                break;
            }
            passed.push_str(between(at, range.start));
            match judge(&finding, between(range.start, range.end)) {
                Verdict::Keep => passed.push_str(between(range.start, range.end)),
                Verdict::Replace(replacement) => passed.push_str(&replacement),
                Verdict::Block => return Err(Blocked),
            }
            at = range.end;
        }
        if at < settled {
            passed.push_str(between(at, settled));
            at = settled;
        }
        let last = self
            .text
            .get(..at)
            .and_then(|before| before.chars().next_back());
        let kept = last.map_or(0, char::len_utf8);
        self.text.drain(..at - kept);
        self.begin = kept;
        Ok(passed)
    }
}

/// A whole text through one screen; `None` if nothing of it changes.
///
/// # Errors
/// [`Blocked`].
pub(super) fn whole(
    screen: &Screen,
    text: &str,
    judge: &mut dyn FnMut(&Finding, &str) -> Verdict,
) -> Result<Option<String>, Blocked> {
    let mut changed: Option<String> = None;
    let mut at = 0;
    for finding in screen.find(text, 0) {
        let found = text.get(finding.range.clone()).unwrap_or_default();
        match judge(&finding, found) {
            Verdict::Keep => {}
            Verdict::Replace(replacement) => {
                let so_far = changed.get_or_insert_default();
                so_far.push_str(text.get(at..finding.range.start).unwrap_or_default());
                so_far.push_str(&replacement);
                at = finding.range.end;
            }
            Verdict::Block => return Err(Blocked),
        }
    }
    if let Some(changed) = &mut changed {
        changed.push_str(text.get(at..).unwrap_or_default());
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::{Blocked, Finding, Hold, Verdict, whole};
    use crate::guard::screen::{Rule, Screen};

    fn screen() -> Screen {
        let patterns = [r"[a-z]+@[a-z]+\.[a-z]+", r"\bsecret\b", "geheim", "ü+"];
        let rules = patterns.iter().map(|pattern| Rule::new("X", pattern));
        Screen::compile(rules.collect(), 64).unwrap()
    }

    fn mask(_: &Finding, found: &str) -> Verdict {
        Verdict::Replace(format!("<{}>", found.len()))
    }

    /// The pieces that come out.
    fn stream(pieces: &[&str]) -> Result<Vec<String>, Blocked> {
        let (screen, mut hold) = (screen(), Hold::default());
        let mut passed = Vec::new();
        for piece in pieces {
            passed.push(hold.push(&screen, piece, &mut mask)?);
        }
        passed.push(hold.finish(&screen, &mut mask)?);
        Ok(passed)
    }

    #[track_caller]
    fn check(pieces: &[&str], expected: &[&str]) {
        assert_eq!(stream(pieces).unwrap(), expected);
    }

    #[test]
    fn only_what_may_be_a_match_waits() {
        check(&["The ", "cat"], &["The ", "", "cat"]);
        check(&["my sec", "ret ", "is"], &["my ", "<6> ", "", "is"]);
        check(&["my sec", "rets "], &["my ", "secrets ", ""]);
        check(&["a@b", ".c", "om, so"], &["", "", "<7>, ", "so"]);
        check(&["1", "2 ", "3"], &["1", "2 ", "3", ""]);
        check(&["x", "secret 1"], &["", "xsecret 1", ""]);
    }

    #[test]
    fn a_finding_that_blocks_lets_nothing_more_through() {
        let (screen, mut hold) = (screen(), Hold::default());
        let mut block = |_: &Finding, _: &str| Verdict::Block;
        assert_eq!(
            hold.push(&screen, "0 gehe", &mut block),
            Ok("0 ".to_owned())
        );
        assert_eq!(hold.push(&screen, "im 1", &mut block), Err(Blocked));
    }

    proptest! {
        #[test]
        fn pieces_say_what_the_whole_says(text in "[ab@. sectü]{0,40}|[a-c ]{0,5}(secret|geheim|a@b\\.c)[a-c .]{0,5}(secret|geheim|a@b\\.c)?", cuts in vec(any::<proptest::sample::Index>(), 0..8)) {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|at| text.is_char_boundary(*at)).collect();
            places.extend([0, text.len()]);
            places.sort_unstable();
            let pieces: Vec<&str> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let passed = stream(&pieces).unwrap().concat();
            let at_once = whole(&screen(), &text, &mut mask).unwrap().unwrap_or_else(|| text.clone());
            assert_eq!(passed, at_once, "{pieces:?}");
        }
    }
}
