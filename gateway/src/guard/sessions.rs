//! The guards of all routes that a request was sent through: of its own, and of those that it fell back to.

use bytes::Bytes;

use super::{session::Session, stream::StreamGuard};
use crate::{call::Operation, fault::Fault};

/// What looks at an answer. Who saw the request last sees the answer first.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Vec<Session>);

/// What looks at the events of a stream.
#[derive(Debug, Default)]
pub(crate) struct StreamGuards(Vec<StreamGuard>);

impl Sessions {
    /// Adds the guards that the request has passed now.
    pub(crate) fn push(&mut self, session: Session) {
        self.0.push(session);
    }

    /// What is passed on of a whole answer.
    ///
    /// # Errors
    /// It is withheld.
    pub(crate) fn answer(self, operation: Operation, body: Bytes) -> Result<Bytes, Fault> {
        let mut sessions = self.0.into_iter().rev();
        sessions.try_fold(body, |body, mut session| session.answer(operation, body))
    }

    /// What is passed on of all events of a stream.
    ///
    /// # Errors
    /// They are withheld.
    pub(crate) fn events(self, operation: Operation, events: &Bytes) -> Result<Bytes, Fault> {
        let mut guards = self.into_streams(operation);
        let passed = guards.push(events.clone())?;
        let rest = guards.finish()?;
        Ok(match rest.is_empty() {
            true => passed,
            false => Bytes::from([passed, rest].concat()),
        })
    }

    /// What looks at the events of a stream.
    pub(crate) fn into_streams(self, operation: Operation) -> StreamGuards {
        let sessions = self.0.into_iter().rev();
        let looking = sessions.filter(|session| session.looks_at(operation));
        StreamGuards(
            looking
                .map(|session| session.into_stream(operation))
                .collect(),
        )
    }
}

impl StreamGuards {
    /// Takes whole events; returns what can be passed on.
    ///
    /// # Errors
    /// The rest of the stream is withheld, what is held of it too.
    pub(crate) fn push(&mut self, events: Bytes) -> Result<Bytes, Fault> {
        let passed = self
            .0
            .iter_mut()
            .try_fold(events, |events, guard| guard.push(&events));
        if passed.is_err() {
            self.0.clear();
        }
        passed
    }

    /// Ends the stream; returns what waited.
    ///
    /// # Errors
    /// It is withheld.
    pub(crate) fn finish(self) -> Result<Bytes, Fault> {
        let mut guards = self.0.into_iter();
        guards.try_fold(Bytes::new(), |events, mut guard| {
            let passed = guard.push(&events)?;
            let rest = guard.finish()?;
            Ok(Bytes::from([passed, rest].concat()))
        })
    }
}
