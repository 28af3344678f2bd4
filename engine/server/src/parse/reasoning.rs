//! Cuts reasoning off the front of an answer.

use super::format::ReasoningFormat;
use super::mark::{may_become, overlap};

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Reasoning(String),
    Answer(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing but space has come.
    Before,
    /// In reasoning of which nothing but space has come.
    Opened,
    /// In reasoning.
    Inside,
    /// Behind reasoning, with nothing but space since.
    Behind,
    /// In the answer.
    Outside,
}

/// Takes pieces of text and says which are reasoning. Space around reasoning is dropped.
#[derive(Debug)]
pub(super) struct Splitter {
    format: ReasoningFormat,
    place: Place,
    /// What may be part of a mark, or space that may be at an end.
    held: String,
}

impl Splitter {
    /// `is_open` if the prompt has begun the reasoning.
    pub(super) const fn new(format: ReasoningFormat, is_open: bool) -> Self {
        Self {
            format,
            place: if is_open {
                Place::Opened
            } else {
                Place::Before
            },
            held: String::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        self.held.push_str(text);
        while self.advance(parts) {}
    }

    /// Ends the text: what was held back is what it looks like so far.
    pub(super) fn finish(&mut self, parts: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        match self.place {
            Place::Before | Place::Outside => add(parts, Part::Answer, &held),
            Place::Opened | Place::Inside => add(parts, Part::Reasoning, held.trim_end()),
            Place::Behind => {}
        }
    }

    /// Uses up what is held as far as that is clear; true if there is more to do.
    fn advance(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.place {
            Place::Before => self.look_for_start(),
            Place::Opened => {
                self.drop_space();
                self.place = Place::Inside;
                if self.held.is_empty() {
                    self.place = Place::Opened;
                    return false;
                }
                true
            }
            Place::Inside => self.look_for_end(parts),
            Place::Behind => {
                self.drop_space();
                if self.held.is_empty() {
                    return false;
                }
                self.place = Place::Outside;
                true
            }
            Place::Outside => {
                add(parts, Part::Answer, &std::mem::take(&mut self.held));
                false
            }
        }
    }

    fn look_for_start(&mut self) -> bool {
        let text = self.held.trim_start();
        if text.starts_with(&*self.format.start) {
            let end = self.held.len() - text.len() + self.format.start.len();
            self.held.drain(..end);
            self.place = Place::Opened;
            return true;
        }
        if may_become(text, &self.format.start) {
            return false;
        }
        self.place = Place::Outside;
        true
    }

    fn look_for_end(&mut self, parts: &mut Vec<Part>) -> bool {
        let end = &*self.format.end;
        if let Some(start) = self.held.find(end) {
            add(parts, Part::Reasoning, self.held[..start].trim_end());
            self.held.drain(..start + end.len());
            self.place = Place::Behind;
            return true;
        }
        let clear = self.held.len() - overlap(&self.held, end);
        let clear = self.held[..clear].trim_end().len();
        add(parts, Part::Reasoning, &self.held[..clear]);
        self.held.drain(..clear);
        false
    }

    fn drop_space(&mut self) {
        let space = self.held.len() - self.held.trim_start().len();
        self.held.drain(..space);
    }
}

fn add(parts: &mut Vec<Part>, part: impl Fn(String) -> Part, text: &str) {
    if !text.is_empty() {
        parts.push(part(text.to_owned()));
    }
}
