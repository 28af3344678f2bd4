//! The answer that a client of Ollama's API gets: whole, or line by line.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::wire::{
    ClientApi, Exchange, InvalidReply,
    delta::Delta,
    json::Json,
    reply::{Finish, Reply, ReplyPart, Usage},
    stream::Held,
    to_body,
};

/// An answer, or a line of a stream.
#[derive(Debug, Serialize)]
struct Answer {
    model: String,
    created_at: String,
    #[serde(flatten)]
    said: Said,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(flatten)]
    counts: Option<Counts>,
}

/// What is said, in a chat or to one prompt.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Said {
    Message {
        message: Message,
    },
    Response {
        response: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        thinking: Option<String>,
    },
}

/// What the last line counts; times are not measured here.
#[derive(Debug, Serialize)]
struct Counts {
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u64,
    prompt_eval_duration: u64,
    eval_count: u64,
    eval_duration: u64,
}

#[derive(Debug, Default, Serialize)]
struct Message {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Debug, Serialize)]
struct ToolCall {
    id: String,
    function: Function,
}

#[derive(Debug, Serialize)]
struct Function {
    index: u32,
    name: String,
    arguments: Json,
}

impl Answer {
    fn new(exchange: &Exchange, message: Message) -> Self {
        let created = Timestamp::from_second(exchange.created).unwrap_or_default();
        Self {
            model: exchange.model.clone(),
            created_at: created.to_string(),
            said: match exchange.client {
                ClientApi::Generate => Said::Response {
                    response: message.content,
                    thinking: message.thinking,
                },
                _ => Said::Message {
                    message: Message {
                        role: "assistant",
                        ..message
                    },
                },
            },
            done: false,
            done_reason: None,
            counts: None,
        }
    }

    fn end(mut self, finish: &Finish, usage: Usage) -> Self {
        self.done = true;
        self.done_reason = Some(match finish {
            Finish::Length | Finish::ContextFull => "length",
            Finish::Stop
            | Finish::StopSequence(_)
            | Finish::Calls
            | Finish::Refused
            | Finish::Paused => "stop",
        });
        self.counts = Some(Counts {
            total_duration: 0,
            load_duration: 0,
            prompt_eval_count: usage.input,
            prompt_eval_duration: 0,
            eval_count: usage.output,
            eval_duration: 0,
        });
        self
    }
}

/// The body for the client.
///
/// # Errors
/// [`InvalidReply::Arguments`] if the model wrote arguments that are no JSON object: this API has no text for them.
pub(in crate::wire) fn encode_reply(
    exchange: &Exchange,
    reply: Reply,
) -> Result<Bytes, InvalidReply> {
    let mut message = Message::default();
    for part in reply.parts {
        match part {
            ReplyPart::Text(text) | ReplyPart::Refusal(text) => message.content.push_str(&text),
            ReplyPart::Thinking(thinking) => message
                .thinking
                .get_or_insert_default()
                .push_str(&thinking.text),
            ReplyPart::Redacted(_) => {}
            ReplyPart::Call(call) => {
                let index = u32::try_from(message.tool_calls.len()).unwrap_or(u32::MAX);
                let call = tool_call(index, call.id, call.name, &call.arguments)?;
                message.tool_calls.push(call);
            }
        }
    }
    message.thinking = message.thinking.filter(|text| !text.is_empty());
    let answer = Answer::new(exchange, message).end(&reply.finish, reply.usage);
    Ok(to_body(&answer))
}

fn tool_call(
    index: u32,
    id: String,
    name: String,
    arguments: &str,
) -> Result<ToolCall, InvalidReply> {
    let arguments = Json::object(arguments).ok_or(InvalidReply::Arguments)?;
    // A line feed among the arguments would end the line.
    let arguments = Json::parse(&arguments.compact()).unwrap_or(arguments);
    Ok(ToolCall {
        id,
        function: Function {
            index,
            name,
            arguments,
        },
    })
}

/// The state of one stream.
#[derive(Debug)]
pub(in crate::wire) struct Encoder {
    exchange: Exchange,
    /// The call that is being made: its place, id and name. Calls are told whole.
    call: Option<(u32, String, String)>,
    arguments: Held,
    finish: Finish,
    usage: Usage,
}

impl Encoder {
    /// A stream of which nothing has been sent yet.
    pub(in crate::wire) fn new(exchange: &Exchange) -> Self {
        Self {
            exchange: exchange.clone(),
            call: None,
            arguments: Held::default(),
            finish: Finish::default(),
            usage: Usage::default(),
        }
    }

    /// Writes what a piece means to the client.
    ///
    /// # Errors
    /// [`InvalidReply::Arguments`], [`InvalidReply::Interleaved`], [`InvalidReply::TooLong`].
    pub(in crate::wire) fn encode_event(
        &mut self,
        delta: Delta,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidReply> {
        match delta {
            Delta::Start { .. } | Delta::Signature(_) | Delta::Redacted(_) | Delta::Logprobs(_) => {
            }
            Delta::Text(content) | Delta::Refusal(content) => {
                self.tell_call(out)?;
                self.say(
                    out,
                    Message {
                        content,
                        ..Message::default()
                    },
                );
            }
            Delta::Thinking(text) => {
                self.tell_call(out)?;
                let thinking = Some(text);
                self.say(
                    out,
                    Message {
                        thinking,
                        ..Message::default()
                    },
                );
            }
            Delta::Call { index, id, name } => {
                self.tell_call(out)?;
                self.call = Some((index, id, name));
            }
            Delta::Arguments { index, json } => {
                if self.call.as_ref().is_none_or(|(open, ..)| *open != index) {
                    return Err(InvalidReply::Interleaved);
                }
                self.arguments.push(&json)?;
            }
            Delta::Break => self.tell_call(out)?,
            Delta::Usage(usage) => self.usage = self.usage.merge(usage),
            Delta::Finish(finish) => self.finish = finish,
            Delta::End => {
                self.tell_call(out)?;
                let answer = Answer::new(&self.exchange, Message::default());
                write(out, &answer.end(&self.finish, self.usage));
            }
            Delta::Failed(fault) => {
                let error = Value::String(fault.message);
                write(out, &serde_json::json!({"error": error}));
            }
        }
        Ok(())
    }

    /// Tells of the call that was being made, now that it is whole.
    fn tell_call(&mut self, out: &mut Vec<u8>) -> Result<(), InvalidReply> {
        let Some((index, id, name)) = self.call.take() else {
            return Ok(());
        };
        let call = tool_call(index, id, name, &self.arguments.take())?;
        let tool_calls = vec![call];
        self.say(
            out,
            Message {
                tool_calls,
                ..Message::default()
            },
        );
        Ok(())
    }

    fn say(&self, out: &mut Vec<u8>, message: Message) {
        write(out, &Answer::new(&self.exchange, message));
    }
}

fn write(out: &mut Vec<u8>, line: &impl Serialize) {
    out.extend_from_slice(&to_body(line));
    out.push(b'\n');
}
