//! A run as a streamed chat completion: text as the model writes it, then what the deltas did not show.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{Stream, stream};
use protocol::{
    openai::{ChatChunk, ChatChunkChoice, ChatDelta, Usage},
    runs::RunEvent,
    sse::{DONE, Event},
};
use serde_json::Value;

use super::{
    App,
    chat::{AbandonedRun, interrupted, outcome, output_text, usage},
    error::ApiError,
    events::HEARTBEAT,
};
use crate::{feed::Feed, store::RunId};

/// What all events of an answer share.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created: i64,
    /// A loop's model speaks to the caller; a graph's models speak to each other, and only its output is the answer.
    pub(super) is_conversation: bool,
    pub(super) includes_usage: bool,
}

impl Reply {
    fn chunk(&self, delta: ChatDelta, finish_reason: Option<&str>) -> Bytes {
        let choice = ChatChunkChoice {
            index: 0,
            delta,
            logprobs: None,
            finish_reason: finish_reason.map(ToOwned::to_owned),
        };
        self.encode(vec![choice], None)
    }

    fn encode(&self, choices: Vec<ChatChunkChoice>, usage: Option<Usage>) -> Bytes {
        let chunk = ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
            system_fingerprint: None,
        };
        // Strings and numbers only: this cannot fail.
        Event::data(serde_json::to_string(&chunk).unwrap_or_default()).encode()
    }

    fn text(&self, text: &str) -> Bytes {
        self.chunk(
            ChatDelta {
                content: Some(text.to_owned()),
                ..ChatDelta::default()
            },
            None,
        )
    }
}

/// The text of one turn that the client has.
#[derive(Debug, Default)]
struct Shown {
    step: Option<u32>,
    text: String,
    /// Whether anything was shown in an earlier turn.
    has_earlier: bool,
}

impl Shown {
    /// What to send for new text of a turn.
    fn delta(&mut self, step: u32, text: &str) -> String {
        let mut sent = String::new();
        if self.step != Some(step) {
            self.has_earlier |= !self.text.is_empty();
            self.step = Some(step);
            self.text.clear();
            if self.has_earlier {
                sent.push_str("\n\n");
            }
        }
        self.text.push_str(text);
        sent.push_str(text);
        sent
    }

    /// What is missing of a turn's whole text: deltas are not kept, so a listener may have missed some.
    fn rest(&mut self, step: u32, whole: &str) -> String {
        if self.step != Some(step) {
            return if whole.is_empty() {
                String::new()
            } else {
                self.delta(step, whole)
            };
        }
        let missing = match whole.strip_prefix(self.text.as_str()) {
            Some(rest) => rest.to_owned(),
            None => format!("\n\n{whole}"),
        };
        whole.clone_into(&mut self.text);
        missing
    }
}

struct Talk {
    app: App,
    run: RunId,
    feed: Feed,
    reply: Reply,
    guard: Option<AbandonedRun>,
    shown: Shown,
    ready: VecDeque<Bytes>,
    is_over: bool,
}

/// The events of a streamed answer.
pub(super) fn chunks(
    app: App,
    run: RunId,
    feed: Feed,
    reply: Reply,
    guard: Option<AbandonedRun>,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let first = ChatDelta {
        role: Some("assistant".to_owned()),
        content: Some(String::new()),
        ..ChatDelta::default()
    };
    let ready = VecDeque::from([reply.chunk(first, None)]);
    let talk = Talk {
        app,
        run,
        feed,
        reply,
        guard,
        shown: Shown::default(),
        ready,
        is_over: false,
    };
    stream::unfold(talk, |mut talk| async move {
        loop {
            if let Some(bytes) = talk.ready.pop_front() {
                return Some((bytes, talk));
            }
            if talk.is_over {
                return None;
            }
            talk.advance().await;
        }
    })
}

impl Talk {
    async fn advance(&mut self) {
        match tokio::time::timeout(HEARTBEAT, self.feed.next()).await {
            Err(_) => self.ready.push_back(Bytes::from_static(b": alive\n\n")),
            Ok(Ok(Some(item))) => self.take(item.event).await,
            Ok(Ok(None)) => self.fail(&interrupted()),
            Ok(Err(error)) => self.fail(&ApiError::from(error)),
        }
    }

    async fn take(&mut self, event: RunEvent) {
        match event {
            RunEvent::Delta { step, text } if self.reply.is_conversation => {
                let text = self.shown.delta(step, &text);
                self.say(&text);
            }
            RunEvent::StepFinished {
                step,
                node: _,
                writes,
            } if self.reply.is_conversation => {
                if let Some(text) = spoken(&writes) {
                    let text = self.shown.rest(step, text);
                    self.say(&text);
                }
            }
            RunEvent::Finished {
                status,
                output,
                error,
            } => {
                if let Some(guard) = self.guard.take() {
                    guard.disarm();
                }
                match outcome(status, output, error) {
                    Ok(output) => self.finish(&output).await,
                    Err(error) => self.fail(&error),
                }
            }
            RunEvent::Started { .. }
            | RunEvent::StepStarted { .. }
            | RunEvent::ToolCalled { .. }
            | RunEvent::Delta { .. }
            | RunEvent::StepFinished { .. } => {}
        }
    }

    fn say(&mut self, text: &str) {
        if !text.is_empty() {
            self.ready.push_back(self.reply.text(text));
        }
    }

    async fn finish(&mut self, output: &Value) {
        if !self.reply.is_conversation {
            self.say(&output_text(output));
        }
        self.ready
            .push_back(self.reply.chunk(ChatDelta::default(), Some("stop")));
        if self.reply.includes_usage {
            let usage = usage(&self.app, &self.run).await;
            self.ready
                .push_back(self.reply.encode(Vec::new(), Some(usage)));
        }
        self.ready.push_back(Event::data(DONE).encode());
        self.is_over = true;
    }

    fn fail(&mut self, error: &ApiError) {
        self.ready.push_back(Event::data(error.to_json()).encode());
        self.is_over = true;
    }
}

/// The text of the message that a turn wrote.
fn spoken(writes: &Value) -> Option<&str> {
    let message = writes.get(crate::graph::MESSAGES)?;
    if message.get("role")?.as_str()? != "assistant" {
        return None;
    }
    message.get("content")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn a_listener_that_missed_deltas_gets_the_rest_of_the_turn() {
        let mut shown = Shown::default();
        assert_eq!(shown.delta(0, "Let "), "Let ");
        assert_eq!(shown.rest(0, "Let me see"), "me see");
        assert_eq!(shown.delta(2, "It"), "\n\nIt");
        assert_eq!(shown.rest(2, "It is 4"), " is 4");
        assert_eq!(shown.rest(4, ""), "");
        assert_eq!(shown.rest(6, "Bye"), "\n\nBye");
    }
}
