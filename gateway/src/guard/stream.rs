//! Guards on a stream: every event is passed on, in its place and with its fields; only its texts change.
//!
//! While the end of a text may still become a finding, the event that it came with waits, and those behind it. What is
//! settled goes out with the first event that waits, so that no event is invented and none is lost.

use std::{collections::HashMap, ops::Range, sync::Arc};

use bytes::Bytes;
use protocol::sse::find_event;

use super::{
    Guard, Guards, Rule,
    events::{Channel, Ends, Piece, Reading, read},
    hold::{Blocked, Hold, Verdict},
    queue::{Queue, moved, on_one_line},
    screen::{Finding, Screen},
    session::{Phase, Session, Watch, quote},
    texts,
    webhook::Stage,
};
use crate::{call::Operation, decode::Edit, fault::Fault};

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
    queue: Queue,
    /// Webhooks, which see the events first: what they are shown was not put back yet.
    stages: Vec<Stage>,
}

/// One text on its way through all guards.
#[derive(Debug, Default)]
struct Chain(Vec<Hold>);

impl StreamGuard {
    pub(super) fn new(session: Session, operation: Operation) -> Self {
        Self {
            stages: Stage::all(&session.guards.guards),
            session,
            operation,
            channels: HashMap::new(),
            queue: Queue::default(),
        }
    }

    /// Takes whole events; returns what can be passed on.
    ///
    /// # Errors
    /// The rest is withheld.
    pub(crate) async fn push(&mut self, events: Bytes) -> Result<Bytes, Fault> {
        let mut events = events;
        for stage in &mut self.stages {
            events = stage.push(&self.session, self.operation, &events).await?;
        }
        self.screen(&events)
    }

    /// Ends the stream; returns what waited.
    ///
    /// # Errors
    /// It is withheld.
    pub(crate) async fn finish(&mut self) -> Result<Bytes, Fault> {
        let mut events = Bytes::new();
        for stage in &mut self.stages {
            let passed = stage.push(&self.session, self.operation, &events).await?;
            let rest = stage.finish(&self.session).await?;
            events = Bytes::from([passed, rest].concat());
        }
        let passed = self.screen(&events)?;
        let rest = self.end()?;
        Ok(Bytes::from([passed, rest].concat()))
    }

    /// Passes events through the guards that need not ask anybody.
    fn screen(&mut self, events: &Bytes) -> Result<Bytes, Fault> {
        let mut rest = events.clone();
        while !rest.is_empty() {
            let length = find_event(&rest, 0).unwrap_or(rest.len());
            self.take(rest.split_to(length))?;
        }
        if QUEUE_BYTES_MAX < self.queue.bytes() {
            self.settle(&Ends::All)?;
        }
        Ok(self.queue.ready())
    }

    fn end(&mut self) -> Result<Bytes, Fault> {
        self.settle(&Ends::All)?;
        Ok(self.queue.ready())
    }

    fn take(&mut self, event: Bytes) -> Result<(), Fault> {
        let (event, data) = on_one_line(event);
        if data.is_empty() {
            self.queue.push(event, Vec::new());
            return Ok(());
        }
        let at = data.start;
        let text = event.slice(data);
        let Reading {
            pieces,
            mut found,
            ends,
        } = read(self.operation, &text).map_err(|_| Phase::Answer.unreadable())?;
        self.check_tools(&found.tools)?;
        let mut edits = Vec::new();
        if self.session.hides_chances(Phase::Answer) {
            edits = moved(found.hide_chances(&text), at);
        }
        for range in found.texts.iter().map(|text| text.range.clone()) {
            edits.extend(self.whole(&text, range, at)?);
        }
        // What ends does so behind this event's own pieces.
        self.queue.push(event, edits);
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
        let range = at + range.start..at + range.end;
        self.queue.wait(&channel, range, before);
        self.queue.pass(&channel, &passed, holds);
        Ok(())
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
            self.queue.pass(&channel, &passed, false);
        }
        Ok(())
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

#[cfg(test)]
mod tests;
