//! A webhook on a stream: texts wait until the service has seen them, a window at a time.
//!
//! The service is shown the text as it stands, with what came before it. The last bytes of what it has let pass wait for
//! what comes behind, so that it can still change what a window would have cut.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use protocol::{snapshot::Mode, sse::find_event};

use super::super::{
    Guard, Rule,
    events::{Channel, Ends, Piece, Reading, read},
    queue::{Queue, moved, on_one_line},
    session::{Phase, Session, quote},
    texts,
};
use crate::{call::Operation, decode::Edit, fault::Fault};

/// Bytes of new text after which the service is asked.
const WINDOW_BYTES: usize = 1024;
/// Bytes at the end of a text that wait though the service has let them pass.
const HOLD_BYTES: usize = 256;
/// Bytes of text before a window that the service is shown, at least.
const CONTEXT_BYTES: usize = 16 << 10;
/// Texts of one stream at once: choices and calls of tools.
const CHANNELS_MAX: usize = 1024;
/// Bytes of events that wait; beyond it the service is asked at once.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// One webhook on one stream.
#[derive(Debug)]
pub(in super::super) struct Stage {
    /// The guard's place in the route.
    place: usize,
    channels: BTreeMap<Channel, Window>,
    queue: Queue,
}

/// One text on its way.
#[derive(Debug, Default)]
struct Window {
    /// The end of what was passed on.
    passed: String,
    /// What was not yet.
    held: String,
    /// Bytes of it that the service has seen.
    seen: usize,
    has_ended: bool,
}

impl Window {
    fn is_due(&self) -> bool {
        self.has_ended || self.seen + WINDOW_BYTES <= self.held.len()
    }

    /// What is passed on now; the end waits unless the text has ended.
    fn take(&mut self) -> String {
        let kept = if self.has_ended { 0 } else { HOLD_BYTES };
        let mut cut = self.held.len().saturating_sub(kept);
        while !self.held.is_char_boundary(cut) {
            cut -= 1;
        }
        let rest = self.held.split_off(cut);
        let passed = std::mem::replace(&mut self.held, rest);
        self.seen = self.held.len();
        self.passed.push_str(&passed);
        // Cut only now and then, so that a long text is not moved with each window.
        if 2 * CONTEXT_BYTES < self.passed.len() {
            let mut cut = self.passed.len() - CONTEXT_BYTES;
            while !self.passed.is_char_boundary(cut) {
                cut += 1;
            }
            self.passed.drain(..cut);
        }
        passed
    }
}

impl Stage {
    /// The stages of a stream's webhooks.
    pub(in super::super) fn all(guards: &[Guard]) -> Vec<Self> {
        let webhooks = guards
            .iter()
            .enumerate()
            .filter(|(_, guard)| matches!(guard.rule, Rule::Webhook(_)) && guard.on.has_answers());
        let stage = |(place, _)| Self {
            place,
            channels: BTreeMap::new(),
            queue: Queue::default(),
        };
        webhooks.map(stage).collect()
    }

    /// Takes whole events; returns what can be passed on.
    ///
    /// # Errors
    /// The rest is withheld.
    pub(in super::super) async fn push(
        &mut self,
        session: &Session,
        operation: Operation,
        events: &Bytes,
    ) -> Result<Bytes, Fault> {
        let mut rest = events.clone();
        while !rest.is_empty() {
            let length = find_event(&rest, 0).unwrap_or(rest.len());
            self.take(session, operation, rest.split_to(length)).await?;
        }
        let is_full = QUEUE_BYTES_MAX < self.queue.bytes();
        if is_full {
            self.end(&Ends::All);
        }
        if self.channels.values().any(Window::is_due) {
            self.ask(session).await?;
        }
        Ok(self.queue.ready())
    }

    /// Ends the stream; returns what waited.
    ///
    /// # Errors
    /// It is withheld.
    pub(in super::super) async fn finish(&mut self, session: &Session) -> Result<Bytes, Fault> {
        self.end(&Ends::All);
        self.ask(session).await?;
        Ok(self.queue.ready())
    }

    async fn take(
        &mut self,
        session: &Session,
        operation: Operation,
        event: Bytes,
    ) -> Result<(), Fault> {
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
        } = read(operation, &text).map_err(|_| Phase::Answer.unreadable())?;
        let mut edits = Vec::new();
        if session.hides_chances(Phase::Answer) {
            edits = moved(found.hide_chances(&text), at);
        }
        edits.extend(self.whole(session, &text, &found.texts, at).await?);
        self.queue.push(event, edits);
        for piece in pieces {
            self.piece(session, &text, piece, at)?;
        }
        self.end(&ends);
        Ok(())
    }

    /// Texts that begin and end in one event.
    async fn whole(
        &self,
        session: &Session,
        data: &[u8],
        found: &[texts::Text],
        at: usize,
    ) -> Result<Vec<Edit>, Fault> {
        let decode = |text: &texts::Text| texts::decode(&data[text.range.clone()]);
        let shown: Result<Vec<Cow<'_, str>>, _> = found.iter().map(decode).collect();
        let shown = shown.map_err(|_| Phase::Answer.unreadable())?;
        let Some(changed) = self.consult(session, &shown).await? else {
            return Ok(Vec::new());
        };
        let changed = found.iter().zip(shown).zip(changed);
        let changed = changed.filter(|((_, old), new)| old != new);
        let edits = changed.map(|((text, _), new)| Edit {
            range: at + text.range.start..at + text.range.end,
            replacement: quote(&new),
        });
        Ok(edits.collect())
    }

    /// A piece of a text, of the event that was queued last.
    fn piece(
        &mut self,
        session: &Session,
        data: &[u8],
        piece: Piece,
        at: usize,
    ) -> Result<(), Fault> {
        let Piece { channel, range, .. } = piece;
        let text = texts::decode(&data[range.clone()]).map_err(|_| Phase::Answer.unreadable())?;
        let text = text.into_owned();
        if CHANNELS_MAX <= self.channels.len() && !self.channels.contains_key(&channel) {
            return Err(Phase::Answer.unreadable());
        }
        let window = self.channels.entry(channel.clone()).or_default();
        window.held.push_str(&text);
        let range = at + range.start..at + range.end;
        self.queue.wait(&channel, range, text.clone());
        if self.only_tells(session) {
            self.queue.pass(&channel, &text, false);
        }
        Ok(())
    }

    /// Notes which texts have ended.
    fn end(&mut self, ends: &Ends) {
        for (channel, window) in &mut self.channels {
            window.has_ended |= match ends {
                Ends::None => false,
                Ends::Of(choices) => choices.contains(&channel.index),
                Ends::All => true,
            };
        }
    }

    /// Asks the service about the texts that are due, and passes on what it lets pass.
    async fn ask(&mut self, session: &Session) -> Result<(), Fault> {
        let due = self.channels.iter().filter(|(_, window)| window.is_due());
        let due: Vec<Channel> = due.map(|(channel, _)| channel.clone()).collect();
        let windows = due.iter().filter_map(|channel| self.channels.get(channel));
        let whole = |window: &Window| Cow::Owned([&*window.passed, &window.held].concat());
        let shown: Vec<Cow<'_, str>> = windows.map(whole).collect();
        let changed = self.consult(session, &shown).await?;
        let only_tells = self.only_tells(session);
        let name = self.guard_name(session);
        for (place, channel) in due.iter().enumerate() {
            let Some(window) = self.channels.get_mut(channel) else {
                continue;
            };
            if let Some(changed) = changed.as_ref().and_then(|texts| texts.get(place)) {
                // What is with the client cannot be changed any more.
                let held = changed.strip_prefix(&*window.passed);
                let held = held.ok_or_else(|| Phase::Answer.blocked(name))?;
                held.clone_into(&mut window.held);
            }
            let passed = window.take();
            let holds = !window.has_ended;
            if !holds {
                self.channels.remove(channel);
            }
            if !only_tells {
                self.queue.pass(channel, &passed, holds);
            }
        }
        Ok(())
    }

    async fn consult(
        &self,
        session: &Session,
        texts: &[Cow<'_, str>],
    ) -> Result<Option<Vec<String>>, Fault> {
        match session.guards.guards.get(self.place) {
            Some(
                guard @ Guard {
                    rule: Rule::Webhook(webhook),
                    ..
                },
            ) => {
                session
                    .consult((guard, webhook), Phase::Answer, texts)
                    .await
            }
            _ => Ok(None),
        }
    }

    fn only_tells(&self, session: &Session) -> bool {
        let guard = session.guards.guards.get(self.place);
        guard.is_none_or(|guard| guard.mode == Mode::Shadow)
    }

    fn guard_name<'a>(&self, session: &'a Session) -> &'a str {
        let guard = session.guards.guards.get(self.place);
        guard.map_or("", |guard| &guard.name)
    }
}
