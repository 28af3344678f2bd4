//! Cutting a text into words before it is encoded.

use std::borrow::Cow;
use std::ops::Range;

use fancy_regex::Regex;

use super::alphabet;
use super::bert;

/// How SentencePiece writes a space.
pub(super) const SPACE: char = '\u{2581}';

/// What becomes of the places where a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// What a text is cut at.
#[derive(Debug)]
pub(super) enum Pattern {
    Regex(Box<Regex>),
    Text(String),
    Character(fn(char) -> bool),
}

/// When a space is put before a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepend {
    Always,
    First,
    Never,
}

/// One step of cutting.
#[derive(Debug)]
pub(super) enum Cut {
    Split {
        pattern: Pattern,
        behavior: Behavior,
        /// Whether the pattern says where not to cut.
        inverts: bool,
    },
    /// Puts a space before a word that has none.
    Space,
    /// Writes bytes in their alphabet.
    Bytes,
    /// Writes spaces as SentencePiece does.
    Metaspace { prepend: Prepend, splits: bool },
}

/// A word, in the text or rewritten.
pub(super) type Word<'a> = Cow<'a, str>;

/// Cuts a text by each step; `is_first` says whether it begins the whole text.
pub(super) fn cut<'a>(steps: &[Cut], text: Word<'a>, is_first: bool) -> Vec<Word<'a>> {
    let mut words = vec![text];
    for step in steps {
        let mut next = Vec::with_capacity(words.len());
        for (index, word) in words.into_iter().enumerate() {
            step.apply(word, is_first && index == 0, &mut next);
        }
        words = next;
    }
    words
}

impl Cut {
    fn apply<'a>(&self, word: Word<'a>, is_first: bool, out: &mut Vec<Word<'a>>) {
        match self {
            Self::Split {
                pattern,
                behavior,
                inverts,
            } => {
                let matches = pattern.matches(&word, *inverts);
                push_parts(word, arrange(matches, *behavior), out);
            }
            Self::Space if !word.is_empty() && !word.starts_with(' ') => {
                out.push(Cow::Owned(format!(" {word}")));
            }
            Self::Space => out.push(word),
            Self::Bytes => {
                out.push(Cow::Owned(word.bytes().map(alphabet::to_char).collect()));
            }
            Self::Metaspace { prepend, splits } => {
                let mut word = word.replace(' ', SPACE.encode_utf8(&mut [0; 4]));
                let wants_space = match prepend {
                    Prepend::Always => true,
                    Prepend::First => is_first,
                    Prepend::Never => false,
                };
                if wants_space && !word.is_empty() && !word.starts_with(SPACE) {
                    word.insert(0, SPACE);
                }
                if *splits {
                    let matches =
                        Pattern::Character(|character| character == SPACE).matches(&word, false);
                    push_parts(
                        Cow::Owned(word),
                        arrange(matches, Behavior::MergedWithNext),
                        out,
                    );
                } else {
                    out.push(Cow::Owned(word));
                }
            }
        }
    }
}

fn push_parts<'a>(word: Word<'a>, parts: Vec<Range<usize>>, out: &mut Vec<Word<'a>>) {
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    match word {
        Cow::Borrowed(text) => out.extend(parts.map(|part| Cow::Borrowed(&text[part]))),
        Cow::Owned(text) => out.extend(parts.map(|part| Cow::Owned(text[part].to_owned()))),
    }
}

/// Stretches of a text that cover it, and whether each is a match.
type Matches = Vec<(Range<usize>, bool)>;

impl Pattern {
    fn matches(&self, text: &str, inverts: bool) -> Matches {
        let mut matches = Vec::new();
        let mut end = 0;
        let mut add = |found: Range<usize>| {
            if end < found.start {
                matches.push((end..found.start, inverts));
            }
            end = found.end;
            matches.push((found, !inverts));
        };
        match self {
            // A pattern that gives up (its backtracking is limited) leaves the rest in one piece.
            Self::Regex(regex) => regex
                .find_iter(text)
                .map_while(Result::ok)
                .filter(|found| !found.range().is_empty())
                .for_each(|found| add(found.range())),
            Self::Text(pattern) if pattern.is_empty() => {}
            Self::Text(pattern) => text
                .match_indices(pattern.as_str())
                .for_each(|(start, found)| add(start..start + found.len())),
            Self::Character(is_match) => text
                .match_indices(*is_match)
                .for_each(|(start, found)| add(start..start + found.len())),
        }
        if end < text.len() {
            matches.push((end..text.len(), inverts));
        }
        matches
    }
}

/// The parts that remain.
fn arrange(matches: Matches, behavior: Behavior) -> Vec<Range<usize>> {
    match behavior {
        Behavior::Isolated => matches.into_iter().map(|(part, _)| part).collect(),
        Behavior::Removed => {
            let kept = matches.into_iter().filter(|(_, is_match)| !is_match);
            kept.map(|(part, _)| part).collect()
        }
        Behavior::Contiguous => join(matches, |before, is_match| before == is_match),
        Behavior::MergedWithPrevious => join(matches, |before, is_match| is_match && !before),
        Behavior::MergedWithNext => {
            let mut parts: Vec<Range<usize>> = Vec::new();
            let mut after = false;
            for (part, is_match) in matches.into_iter().rev() {
                match parts.last_mut() {
                    Some(next) if is_match && !after => next.start = part.start,
                    _ => parts.push(part),
                }
                after = is_match;
            }
            parts.reverse();
            parts
        }
    }
}

/// Joins parts with the part before, where `joins(is the one before a match, is this one)`.
fn join(matches: Matches, joins: impl Fn(bool, bool) -> bool) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut before = false;
    for (part, is_match) in matches {
        match parts.last_mut() {
            Some(last) if joins(before, is_match) => last.end = part.end,
            _ => parts.push(part),
        }
        before = is_match;
    }
    parts
}

impl Cut {
    /// A cut at a pattern whose matches are words too.
    pub(super) const fn isolate(pattern: Pattern) -> Self {
        Self::Split {
            pattern,
            behavior: Behavior::Isolated,
            inverts: false,
        }
    }

    /// Cuts at white space, and isolates punctuation.
    pub(super) fn bert() -> [Self; 2] {
        [
            Self::Split {
                pattern: Pattern::Character(char::is_whitespace),
                behavior: Behavior::Removed,
                inverts: false,
            },
            Self::isolate(Pattern::Character(bert::is_punctuation)),
        ]
    }
}
