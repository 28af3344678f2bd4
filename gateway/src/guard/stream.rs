//! Guards on a stream: every event is passed on, in its place and with its fields; only its texts change.
//!
//! While the end of a text may still become a finding, the event that it came with waits, and those behind it. What is
//! settled goes out with the first event that waits, so that no event is invented and none is lost.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use protocol::sse::{data_of, find_event};

use super::{
    Guard, Guards, Rule,
    events::{Channel, Ends, Piece, Reading, read},
    hold::{Blocked, Hold, Verdict},
    screen::{Finding, Screen},
    session::{Phase, Session, Watch, quote},
    texts,
};
use crate::{
    call::Operation,
    decode::{Edit, splice},
    fault::Fault,
};

/// Texts of one stream at once: choices and calls of tools.
const CHANNELS_MAX: usize = 1024;
/// Bytes of events that wait; more are passed on as if nothing came behind them.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// The guards of one stream.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    session: Session,
    operation: Operation,
    channels: HashMap<Channel, Chain>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
}

/// One text on its way through all guards.
#[derive(Debug, Default)]
struct Chain(Vec<Hold>);

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

impl StreamGuard {
    pub(super) fn new(session: Session, operation: Operation) -> Self {
        Self {
            session,
            operation,
            channels: HashMap::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
        }
    }

    /// Takes whole events; returns what can be passed on.
    ///
    /// # Errors
    /// The rest is withheld.
    pub(crate) fn push(&mut self, events: &Bytes) -> Result<Bytes, Fault> {
        let mut rest = events.clone();
        while !rest.is_empty() {
            let length = find_event(&rest, 0).unwrap_or(rest.len());
            self.take(rest.split_to(length))?;
        }
        if QUEUE_BYTES_MAX < self.queued_bytes {
            self.settle(&Ends::All)?;
        }
        Ok(self.ready())
    }

    /// Ends the stream; returns what waited.
    ///
    /// # Errors
    /// It is withheld.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Fault> {
        self.settle(&Ends::All)?;
        Ok(self.ready())
    }

    fn take(&mut self, event: Bytes) -> Result<(), Fault> {
        let (event, data) = on_one_line(event);
        self.queued_bytes += event.len();
        let mut queued = Queued {
            event,
            edits: Vec::new(),
            slots: Vec::new(),
        };
        if data.is_empty() {
            self.queue.push_back(queued);
            return Ok(());
        }
        let at = data.start;
        let text = queued.event.slice(data);
        let Reading {
            pieces,
            mut found,
            ends,
        } = read(self.operation, &text).map_err(|_| Phase::Answer.unreadable())?;
        self.check_tools(&found.tools)?;
        if self.session.hides_chances(Phase::Answer) {
            let emptied = found.hide_chances(&text).into_iter();
            queued.edits.extend(emptied.map(|edit| Edit {
                range: at + edit.range.start..at + edit.range.end,
                ..edit
            }));
        }
        for range in found.texts.iter().map(|text| text.range.clone()) {
            queued.edits.extend(self.whole(&text, range, at)?);
        }
        // What ends does so behind this event's own pieces.
        self.queue.push_back(queued);
        for piece in pieces {
            self.piece(&text, piece, at)?;
        }
        self.settle(&ends)
    }

    fn check_tools(&self, names: &[String]) -> Result<(), Fault> {
        for guard in answer_guards(&self.session.guards) {
            if let Rule::Tools(tools) = &guard.rule {
                for name in names {
                    self.session
                        .check_tool(guard, Phase::Answer, tools.allows(name))?;
                }
            }
        }
        Ok(())
    }

    /// A text that begins and ends in one event.
    fn whole(
        &mut self,
        data: &[u8],
        range: Range<usize>,
        at: usize,
    ) -> Result<Option<Edit>, Fault> {
        let text = texts::decode(&data[range.clone()]).map_err(|_| Phase::Answer.unreadable())?;
        let mut chain = Chain::default();
        let mut passed = chain.push(&mut self.session, &text, false)?;
        passed.push_str(&chain.finish(&mut self.session, false)?);
        Ok((passed != text).then(|| Edit {
            range: at + range.start..at + range.end,
            replacement: quote(&passed),
        }))
    }

    /// A piece of a text, of the event that was queued last.
    fn piece(&mut self, data: &[u8], piece: Piece, at: usize) -> Result<(), Fault> {
        let Piece {
            channel,
            range,
            is_json,
        } = piece;
        let before = texts::decode(&data[range.clone()])
            .map_err(|_| Phase::Answer.unreadable())?
            .into_owned();
        if CHANNELS_MAX <= self.channels.len() && !self.channels.contains_key(&channel) {
            return Err(Phase::Answer.unreadable());
        }
        let chain = self.channels.entry(channel.clone()).or_default();
        let passed = chain.push(&mut self.session, &before, is_json)?;
        let holds = !chain.is_empty(&self.session.guards);
        let slot = Slot {
            channel: channel.clone(),
            range: at + range.start..at + range.end,
            before,
            text: String::new(),
            is_settled: false,
        };
        if let Some(last) = self.queue.back_mut() {
            last.slots.push(slot);
        }
        self.pass(&channel, &passed, holds);
        Ok(())
    }

    /// Gives the events that wait for a text what it has let pass: to each what it came with, as long as that is still
    /// what it was. The last one goes on waiting if more is held.
    fn pass(&mut self, channel: &Channel, passed: &str, holds: bool) {
        let slots = self.queue.iter_mut().flat_map(|queued| &mut queued.slots);
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

    /// Ends texts.
    fn settle(&mut self, ends: &Ends) -> Result<(), Fault> {
        let is_ended = |channel: &Channel| match ends {
            Ends::None => false,
            Ends::Of(choices) => choices.contains(&channel.index),
            Ends::All => true,
        };
        let ended: Vec<Channel> = self
            .channels
            .keys()
            .filter(|channel| is_ended(channel))
            .cloned()
            .collect();
        for channel in ended {
            let Some(mut chain) = self.channels.remove(&channel) else {
                continue;
            };
            let is_json = matches!(channel.field.as_str(), "arguments" | "partial_json");
            let passed = chain.finish(&mut self.session, is_json)?;
            self.pass(&channel, &passed, false);
        }
        Ok(())
    }

    /// The events in front that wait for nothing.
    fn ready(&mut self) -> Bytes {
        let mut ready = BytesMut::new();
        while let Some(queued) = self.queue.front() {
            if !queued.slots.iter().all(|slot| slot.is_settled) {
                break;
            }
            let Some(queued) = self.queue.pop_front() else {
                break;
            };
            self.queued_bytes -= queued.event.len();
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

impl Chain {
    /// Passes a piece through all guards, and puts back what was masked in the request.
    fn push(&mut self, session: &mut Session, piece: &str, is_json: bool) -> Result<String, Fault> {
        self.step(
            session,
            is_json,
            piece.to_owned(),
            |hold, screen, passed, judge| hold.push(screen, passed, judge),
        )
    }

    /// Passes the rest.
    fn finish(&mut self, session: &mut Session, is_json: bool) -> Result<String, Fault> {
        self.step(
            session,
            is_json,
            String::new(),
            |hold, screen, passed, judge| {
                let mut all = hold.push(screen, passed, judge)?;
                all.push_str(&hold.finish(screen, judge)?);
                Ok(all)
            },
        )
    }

    fn step(
        &mut self,
        session: &mut Session,
        is_json: bool,
        text: String,
        pass: Pass,
    ) -> Result<String, Fault> {
        let guards = Arc::clone(&session.guards);
        let mut text = text;
        let mut place = 0;
        for guard in answer_guards(&guards) {
            let Rule::Screen { screen, .. } = &guard.rule else {
                continue;
            };
            let watch = Watch {
                guard,
                phase: Phase::Answer,
                screen,
            };
            let mut judge =
                |finding: &Finding, found: &str| session.judge(&watch, finding, found, None);
            let passed = pass(self.hold(place), screen, &text, &mut judge);
            let passed = passed.map_err(|Blocked| Phase::Answer.blocked(&guard.name))?;
            place += 1;
            if !guard.only_tells() {
                text = passed;
            }
        }
        if session.placeholders.is_empty() {
            return Ok(text);
        }
        let mut judge = |finding: &Finding, found: &str| session.unmask(is_json, finding, found);
        let passed = pass(self.hold(place), &guards.placeholders, &text, &mut judge);
        passed.map_err(|Blocked| Phase::Answer.unreadable())
    }

    fn hold(&mut self, place: usize) -> &mut Hold {
        if self.0.len() <= place {
            self.0.resize_with(place + 1, Hold::default);
        }
        &mut self.0[place]
    }

    /// Whether nothing is held by guards that act.
    fn is_empty(&self, guards: &Guards) -> bool {
        let screens =
            answer_guards(guards).filter(|guard| matches!(guard.rule, Rule::Screen { .. }));
        let tells = screens
            .map(Guard::only_tells)
            .chain(std::iter::repeat(false));
        self.0
            .iter()
            .zip(tells)
            .all(|(hold, only_tells)| only_tells || hold.is_empty())
    }
}

/// How a text passes one guard.
type Pass = fn(
    &mut Hold,
    &Screen,
    &str,
    &mut dyn FnMut(&Finding, &str) -> Verdict,
) -> Result<String, Blocked>;

fn answer_guards(guards: &Guards) -> impl Iterator<Item = &Guard> {
    guards.guards.iter().filter(|guard| guard.on.has_answers())
}

/// The event with its data on one line, and where that lies; empty if it has none.
fn on_one_line(event: Bytes) -> (Bytes, Range<usize>) {
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

#[cfg(test)]
mod tests;
