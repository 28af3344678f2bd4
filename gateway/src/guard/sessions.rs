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

    /// What was masked in the request so that it can be undone, each text with what stands in for it.
    pub(crate) fn masked(&self) -> impl Iterator<Item = (String, String)> {
        let sessions = self.0.iter();
        sessions.flat_map(|session| session.placeholders.all())
    }

    /// What is passed on of a whole answer.
    ///
    /// # Errors
    /// It is withheld.
    pub(crate) async fn answer(self, operation: Operation, body: Bytes) -> Result<Bytes, Fault> {
        let mut body = body;
        for mut session in self.0.into_iter().rev() {
            body = session.answer(operation, body).await?;
        }
        Ok(body)
    }

    /// What is passed on of all events of a stream.
    ///
    /// # Errors
    /// They are withheld.
    pub(crate) async fn events(self, operation: Operation, events: &Bytes) -> Result<Bytes, Fault> {
        let mut guards = self.into_streams(operation);
        let passed = guards.push(events.clone()).await?;
        let rest = guards.finish().await?;
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
    pub(crate) async fn push(&mut self, events: Bytes) -> Result<Bytes, Fault> {
        let mut events = events;
        for guard in &mut self.0 {
            match guard.push(events).await {
                Ok(passed) => events = passed,
                Err(fault) => {
                    self.0.clear();
                    return Err(fault);
                }
            }
        }
        Ok(events)
    }

    /// Ends the stream; returns what waited.
    ///
    /// # Errors
    /// It is withheld.
    pub(crate) async fn finish(self) -> Result<Bytes, Fault> {
        let mut events = Bytes::new();
        for mut guard in self.0 {
            let passed = guard.push(events).await?;
            let rest = guard.finish().await?;
            events = Bytes::from([passed, rest].concat());
        }
        Ok(events)
    }
}
