//! The stream that a client of responses gets: each event has its place, and each item begins and ends.

use protocol::openai::{
    ContentPartKind, OutputContent, OutputItem, OutputLogprob, ReasoningPart, ResponseEvent,
    ResponseObject, ResponseStatus, SequencedEvent,
};

use super::{
    encode_reply::of_chat,
    object::{complete, empty, fail, item_id, message, reasoning, redacted, text_part},
};
use crate::wire::{
    Exchange, InvalidReply,
    conversation::Thinking,
    delta::Delta,
    reply::{Finish, Usage},
    stream::{Held, write_event},
    to_body,
};

/// The state of one stream.
#[derive(Debug)]
pub(in crate::wire) struct Encoder {
    exchange: Exchange,
    response: Box<ResponseObject>,
    is_started: bool,
    sequence_number: u64,
    open: Option<Open>,
    /// The text, the thoughts or the arguments of the open item.
    held: Held,
    logprobs: Vec<OutputLogprob>,
    finish: Finish,
    usage: Usage,
}

/// The item that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    id: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Thinking {
        /// The proof, once it has come.
        signature: Option<String>,
    },
    Call {
        /// Its place among the answer's calls.
        index: u32,
        call_id: String,
        name: String,
    },
}

impl Encoder {
    /// A stream of which nothing has been sent yet.
    pub(in crate::wire) fn new(exchange: &Exchange) -> Self {
        Self {
            exchange: exchange.clone(),
            response: Box::new(empty(exchange, None)),
            is_started: false,
            sequence_number: 0,
            open: None,
            held: Held::default(),
            logprobs: Vec::new(),
            finish: Finish::default(),
            usage: Usage::default(),
        }
    }

    /// Writes what a piece means to the client.
    ///
    /// # Errors
    /// [`InvalidReply::Interleaved`], [`InvalidReply::TooLong`].
    pub(in crate::wire) fn encode_event(
        &mut self,
        delta: Delta,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidReply> {
        match delta {
            Delta::Start { id } => {
                *self.response = empty(&self.exchange, id.as_deref());
                self.start(out);
            }
            Delta::Text(text) => self.text(text, out)?,
            Delta::Refusal(text) => self.refusal(text, out)?,
            Delta::Thinking(text) => self.thinking(text, out)?,
            Delta::Signature(proof) => {
                self.open_thinking(out);
                if let Some(Open {
                    kind: Kind::Thinking { signature },
                    ..
                }) = &mut self.open
                {
                    *signature = Some(proof);
                }
                self.close(out);
            }
            Delta::Redacted(data) => {
                self.close(out);
                self.start(out);
                let item = redacted(self.next_id("rs_"), &data);
                self.add(out, item.clone());
                self.done(out, item);
            }
            Delta::Call { index, id, name } => {
                self.close(out);
                self.open_call(index, id, name, out);
            }
            Delta::Arguments { index, json } => self.arguments(index, json, out)?,
            Delta::Break => self.close(out),
            Delta::Logprobs(logprobs) => self.logprobs.extend(of_chat(logprobs)),
            Delta::Usage(usage) => self.usage = self.usage.merge(usage),
            Delta::Finish(finish) => self.finish = finish,
            Delta::End => self.end(out),
            Delta::Failed(fault) => {
                self.start(out);
                fail(&mut self.response, fault);
                let response = self.response.clone();
                self.write(out, ResponseEvent::Failed { response });
            }
        }
        Ok(())
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        let response = self.response.clone();
        self.write(out, ResponseEvent::Created { response });
        let response = self.response.clone();
        self.write(out, ResponseEvent::InProgress { response });
    }

    fn text(&mut self, text: String, out: &mut Vec<u8>) -> Result<(), InvalidReply> {
        self.open_message(Kind::Text, text_part(String::new(), Vec::new()), out);
        self.held.push(&text)?;
        let event = ResponseEvent::OutputTextDelta {
            item_id: self.open_id(),
            output_index: self.place(),
            content_index: 0,
            delta: text,
            logprobs: std::mem::take(&mut self.logprobs),
        };
        self.write(out, event);
        Ok(())
    }

    fn refusal(&mut self, text: String, out: &mut Vec<u8>) -> Result<(), InvalidReply> {
        let refusal = String::new();
        self.open_message(Kind::Refusal, OutputContent::Refusal { refusal }, out);
        self.held.push(&text)?;
        let event = ResponseEvent::RefusalDelta {
            item_id: self.open_id(),
            output_index: self.place(),
            content_index: 0,
            delta: text,
        };
        self.write(out, event);
        Ok(())
    }

    fn thinking(&mut self, text: String, out: &mut Vec<u8>) -> Result<(), InvalidReply> {
        self.open_thinking(out);
        self.held.push(&text)?;
        let event = ResponseEvent::ReasoningTextDelta {
            item_id: self.open_id(),
            output_index: self.place(),
            content_index: 0,
            delta: text,
        };
        self.write(out, event);
        Ok(())
    }

    fn arguments(
        &mut self,
        index: u32,
        json: String,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidReply> {
        let is_open = matches!(
            &self.open,
            Some(Open { kind: Kind::Call { index: open, .. }, .. }) if *open == index
        );
        if !is_open {
            return Err(InvalidReply::Interleaved);
        }
        self.held.push(&json)?;
        let event = ResponseEvent::FunctionCallArgumentsDelta {
            item_id: self.open_id(),
            output_index: self.place(),
            delta: json,
        };
        self.write(out, event);
        Ok(())
    }

    /// Goes on in the open message if it is of the kind, and begins one otherwise.
    fn open_message(&mut self, kind: Kind, part: OutputContent, out: &mut Vec<u8>) {
        if self.open.as_ref().is_some_and(|open| open.kind == kind) {
            return;
        }
        self.close(out);
        self.start(out);
        let id = self.next_id("msg_");
        self.add(out, message(id.clone(), ResponseStatus::InProgress, None));
        self.open = Some(Open { id, kind });
        self.add_part(out, ContentPartKind::Output(part));
    }

    fn open_thinking(&mut self, out: &mut Vec<u8>) {
        let kind = Kind::Thinking { signature: None };
        if self.open.as_ref().is_some_and(|open| open.kind == kind) {
            return;
        }
        self.close(out);
        self.start(out);
        let id = self.next_id("rs_");
        let item = OutputItem::Reasoning {
            id: id.clone(),
            status: ResponseStatus::InProgress,
            summary: Vec::new(),
            content: Vec::new(),
            encrypted_content: None,
        };
        self.add(out, item);
        self.open = Some(Open { id, kind });
        let text = String::new();
        let part = ReasoningPart::ReasoningText { text };
        self.add_part(out, ContentPartKind::Reasoning(part));
    }

    fn open_call(&mut self, index: u32, call_id: String, name: String, out: &mut Vec<u8>) {
        self.start(out);
        let id = self.next_id("fc_");
        let item = OutputItem::FunctionCall {
            id: id.clone(),
            call_id: call_id.clone(),
            name: name.clone(),
            arguments: String::new(),
            status: ResponseStatus::InProgress,
        };
        self.add(out, item);
        let kind = Kind::Call {
            index,
            call_id,
            name,
        };
        self.open = Some(Open { id, kind });
    }

    /// Ends the open item.
    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(Open { id, kind }) = self.open.take() else {
            return;
        };
        let held = self.held.take();
        let output_index = self.place();
        let item_id = id.clone();
        let content_index = 0;
        let item = match kind {
            Kind::Text => {
                let (text, logprobs) = (held.clone(), Vec::new());
                let event = ResponseEvent::OutputTextDone {
                    item_id,
                    output_index,
                    content_index,
                    text,
                    logprobs,
                };
                self.write(out, event);
                let part = text_part(held, Vec::new());
                self.end_part(out, &id, ContentPartKind::Output(part.clone()));
                message(id, ResponseStatus::Completed, Some(part))
            }
            Kind::Refusal => {
                let refusal = held.clone();
                let event = ResponseEvent::RefusalDone {
                    item_id,
                    output_index,
                    content_index,
                    refusal,
                };
                self.write(out, event);
                let part = OutputContent::Refusal { refusal: held };
                self.end_part(out, &id, ContentPartKind::Output(part.clone()));
                message(id, ResponseStatus::Completed, Some(part))
            }
            Kind::Thinking { signature } => {
                let text = held.clone();
                let event = ResponseEvent::ReasoningTextDone {
                    item_id,
                    output_index,
                    content_index,
                    text,
                };
                self.write(out, event);
                let text = held.clone();
                let part = ReasoningPart::ReasoningText { text };
                self.end_part(out, &id, ContentPartKind::Reasoning(part));
                let text = held;
                reasoning(id, Thinking { text, signature })
            }
            Kind::Call { call_id, name, .. } => {
                let event = ResponseEvent::FunctionCallArgumentsDone {
                    item_id,
                    output_index,
                    name: name.clone(),
                    arguments: held.clone(),
                };
                self.write(out, event);
                OutputItem::FunctionCall {
                    id,
                    call_id,
                    name,
                    arguments: held,
                    status: ResponseStatus::Completed,
                }
            }
        };
        self.done(out, item);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        self.close(out);
        complete(&mut self.response, &self.finish, self.usage);
        let response = self.response.clone();
        let event = match response.status {
            ResponseStatus::Incomplete => ResponseEvent::Incomplete { response },
            _ => ResponseEvent::Completed { response },
        };
        self.write(out, event);
    }

    fn add(&mut self, out: &mut Vec<u8>, item: OutputItem) {
        let output_index = self.place();
        self.write(out, ResponseEvent::OutputItemAdded { output_index, item });
    }

    fn done(&mut self, out: &mut Vec<u8>, item: OutputItem) {
        let output_index = self.place();
        self.response.output.push(item.clone());
        self.write(out, ResponseEvent::OutputItemDone { output_index, item });
    }

    fn add_part(&mut self, out: &mut Vec<u8>, part: ContentPartKind) {
        let event = ResponseEvent::ContentPartAdded {
            item_id: self.open_id(),
            output_index: self.place(),
            content_index: 0,
            part,
        };
        self.write(out, event);
    }

    fn end_part(&mut self, out: &mut Vec<u8>, item_id: &str, part: ContentPartKind) {
        let event = ResponseEvent::ContentPartDone {
            item_id: item_id.to_owned(),
            output_index: self.place(),
            content_index: 0,
            part,
        };
        self.write(out, event);
    }

    /// The place of the open item, or of the next one.
    fn place(&self) -> u32 {
        u32::try_from(self.response.output.len()).unwrap_or(u32::MAX)
    }

    fn next_id(&self, prefix: &str) -> String {
        item_id(prefix, &self.response.id, self.place())
    }

    fn open_id(&self) -> String {
        let open = self.open.as_ref();
        open.map(|open| open.id.clone()).unwrap_or_default()
    }

    fn write(&mut self, out: &mut Vec<u8>, event: ResponseEvent) {
        let name = event.name();
        let event = SequencedEvent {
            event,
            sequence_number: self.sequence_number,
        };
        self.sequence_number = self.sequence_number.saturating_add(1);
        write_event(out, name, &to_body(&event));
    }
}
