//! Events of a stream that wait: each goes out in its place once all texts in it are settled.

use std::{collections::VecDeque, ops::Range};

use bytes::{Bytes, BytesMut};
use protocol::sse::data_of;

use super::{events::Channel, session::quote};
use crate::decode::{Edit, splice};

/// Events that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Queued>,
    bytes: usize,
}

/// An event that waits.
#[derive(Debug)]
struct Queued {
    event: Bytes,
    /// Edits of the event that are settled.
    edits: Vec<Edit>,
    slots: Vec<Slot>,
}

/// A place of an event for a piece of a text.
#[derive(Debug)]
struct Slot {
    channel: Channel,
    range: Range<usize>,
    before: String,
    text: String,
    is_settled: bool,
}

impl Queue {
    /// Bytes of the events that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event with edits that are settled.
    pub(super) fn push(&mut self, event: Bytes, edits: Vec<Edit>) {
        self.bytes += event.len();
        self.events.push_back(Queued {
            event,
            edits,
            slots: Vec::new(),
        });
    }

    /// Adds a place for a piece of a text to the event that was added last.
    pub(super) fn wait(&mut self, channel: &Channel, range: Range<usize>, before: String) {
        if let Some(last) = self.events.back_mut() {
            last.slots.push(Slot {
                channel: channel.clone(),
                range,
                before,
                text: String::new(),
                is_settled: false,
            });
        }
    }

    /// Gives the events that wait for a text what may be passed on of it: to each what it came with, as long as that is
    /// still what it was. The last one goes on waiting if more is held.
    pub(super) fn pass(&mut self, channel: &Channel, passed: &str, holds: bool) {
        let slots = self.events.iter_mut().flat_map(|queued| &mut queued.slots);
        let is_waiting = |slot: &&mut Slot| !slot.is_settled && slot.channel == *channel;
        let mut waiting = slots.filter(is_waiting).peekable();
        let mut rest = passed;
        while let Some(slot) = waiting.next() {
            let missing = slot.before.strip_prefix(&slot.text);
            let own = missing.filter(|missing| rest.starts_with(missing));
            let is_last = waiting.peek().is_none();
            let length = match own {
                Some(own) if !is_last => own.len(),
                _ => rest.len(),
            };
            let (given, behind) = rest.split_at(length);
            slot.text.push_str(given);
            rest = behind;
            slot.is_settled = !holds || !is_last;
        }
    }

    /// The events in front that wait for nothing.
    pub(super) fn ready(&mut self) -> Bytes {
        let mut ready = BytesMut::new();
        while let Some(queued) = self.events.front() {
            if !queued.slots.iter().all(|slot| slot.is_settled) {
                break;
            }
            let Some(queued) = self.events.pop_front() else {
                break;
            };
            self.bytes -= queued.event.len();
            ready.extend_from_slice(&queued.edited());
        }
        ready.freeze()
    }
}

impl Queued {
    fn edited(self) -> Bytes {
        let changed = self
            .slots
            .into_iter()
            .filter(|slot| slot.before != slot.text);
        let changed = changed.map(|slot| Edit {
            range: slot.range,
            replacement: quote(&slot.text),
        });
        splice(&self.event, self.edits.into_iter().chain(changed).collect())
    }
}

/// The event with its data on one line, and where that lies; empty if it has none.
pub(super) fn on_one_line(event: Bytes) -> (Bytes, Range<usize>) {
    let lines: Vec<Range<usize>> = data_of(&event).collect();
    let [first, rest @ ..] = &lines[..] else {
        return (event, 0..0);
    };
    let begin = first.start;
    let trimmed = |line: &[u8]| begin..begin + line.trim_ascii_end().len();
    let Some(last) = rest.last() else {
        let data = trimmed(&event[first.clone()]);
        return (event, data);
    };
    let mut joined = event[..first.end].to_vec();
    for line in rest {
        // A line break in JSON stands between its parts, where white space may be.
        joined.push(b' ');
        joined.extend_from_slice(&event[line.clone()]);
    }
    let data = trimmed(&joined[begin..]);
    joined.extend_from_slice(&event[last.end..]);
    (Bytes::from(joined), data)
}

/// Edits of an event's data, which begins here, as edits of the event.
pub(super) fn moved(edits: Vec<Edit>, at: usize) -> Vec<Edit> {
    let edits = edits.into_iter().map(|edit| Edit {
        range: at + edit.range.start..at + edit.range.end,
        ..edit
    });
    edits.collect()
}
