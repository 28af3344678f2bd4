//! One stream: the upstream's bytes in, the client's events out.

use bytes::Bytes;
use protocol::sse::{Event, Parser};

use super::{
    ClientApi, Exchange, InvalidReply, UpstreamApi, bedrock, chat, completions, delta::Delta,
    gemini, messages, ollama, reply::Usage, responses,
};
use crate::encode::Tally;

/// Bytes of one event that are accepted.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Bytes of one text, as thoughts, that are kept until it is complete.
const HELD_BYTES_MAX: usize = 16 << 20;

/// The state of one stream.
///
/// Streams of chats always end with an event that carries the usage; whoever passes the stream on leaves it out for
/// clients that did not ask for it.
#[derive(Debug)]
pub(crate) struct Translation {
    framing: Framing,
    decoder: Decoder,
    encoder: Encoder,
    usage: Option<Usage>,
    tally: Tally,
    /// Whether the upstream said why the answer ended.
    is_finished: bool,
    /// What went wrong behind the events that were returned last.
    fault: Option<InvalidReply>,
}

/// How the upstream's bytes are cut into events.
#[derive(Debug)]
enum Framing {
    /// Server-sent events.
    Sse(Parser),
    /// Amazon's frames.
    Frames(bedrock::Frames),
    /// Lines of JSON.
    Lines(ollama::Lines),
}

#[derive(Debug)]
enum Decoder {
    Chat(chat::Decoder),
    Messages(messages::Decoder),
    Gemini(gemini::Decoder),
    Bedrock(bedrock::Decoder),
    Ollama(ollama::Decoder),
}

#[derive(Debug)]
enum Encoder {
    Chat(chat::Encoder),
    Messages(messages::Encoder),
    Responses(Box<responses::Encoder>),
    Completions(completions::Encoder),
    Ollama(ollama::Encoder),
}

impl Translation {
    /// A stream of which nothing has come yet.
    pub(crate) fn new(exchange: &Exchange) -> Self {
        let framing = match exchange.upstream {
            UpstreamApi::Chat | UpstreamApi::Messages | UpstreamApi::Gemini => {
                Framing::Sse(Parser::new(EVENT_BYTES_MAX))
            }
            UpstreamApi::Bedrock => Framing::Frames(bedrock::Frames::new(EVENT_BYTES_MAX)),
            UpstreamApi::Ollama => Framing::Lines(ollama::Lines::new(EVENT_BYTES_MAX)),
        };
        let decoder = match exchange.upstream {
            UpstreamApi::Chat => Decoder::Chat(chat::Decoder::new(exchange)),
            UpstreamApi::Messages => Decoder::Messages(messages::Decoder::default()),
            UpstreamApi::Gemini => Decoder::Gemini(gemini::Decoder::new(exchange)),
            UpstreamApi::Bedrock => Decoder::Bedrock(bedrock::Decoder::default()),
            UpstreamApi::Ollama => Decoder::Ollama(ollama::Decoder::new(exchange)),
        };
        let encoder = match exchange.client {
            ClientApi::Chat => Encoder::Chat(chat::Encoder::new(exchange)),
            ClientApi::Messages => Encoder::Messages(messages::Encoder::new(exchange)),
            ClientApi::Responses => Encoder::Responses(Box::new(responses::Encoder::new(exchange))),
            ClientApi::Completions => Encoder::Completions(completions::Encoder::new(exchange)),
            ClientApi::Ollama | ClientApi::Generate => {
                Encoder::Ollama(ollama::Encoder::new(exchange))
            }
        };
        Self {
            framing,
            decoder,
            encoder,
            usage: None,
            tally: Tally::default(),
            is_finished: false,
            fault: None,
        }
    }

    /// What was seen so far.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            tokens: self.usage.map(Into::into),
            ..self.tally
        }
    }

    /// Takes bytes of the upstream and returns the client's events that they complete.
    ///
    /// # Errors
    /// [`InvalidReply`], once the events before it were returned; the stream cannot be used after that.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Bytes, InvalidReply> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let events = match &mut self.framing {
            Framing::Sse(parser) => parser.push(bytes)?,
            Framing::Frames(frames) => frames.push(bytes)?,
            Framing::Lines(lines) => lines.push(bytes)?,
        };
        let mut out = Vec::new();
        for event in events {
            if let Err(fault) = self.take(&event, &mut out) {
                if out.is_empty() {
                    return Err(fault);
                }
                self.fault = Some(fault);
                break;
            }
        }
        Ok(out.into())
    }

    /// Takes the upstream's end and returns the client's last events: nothing if they were sent already, and nothing
    /// if the answer was not complete, which [`Self::tally`] tells.
    ///
    /// # Errors
    /// [`InvalidReply`] if the pieces that came do not make an answer.
    pub(crate) fn finish(&mut self) -> Result<Bytes, InvalidReply> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let mut out = Vec::new();
        if let Framing::Lines(lines) = &mut self.framing
            && let Some(last) = lines.finish()?
        {
            self.take(&last, &mut out)?;
        }
        if self.is_finished {
            self.tell(Delta::End, &mut out)?;
        }
        Ok(out.into())
    }

    fn take(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), InvalidReply> {
        let mut deltas = Vec::new();
        match &mut self.decoder {
            Decoder::Chat(decoder) => decoder.decode_event(event, &mut deltas),
            Decoder::Messages(decoder) => decoder.decode_event(event, &mut deltas),
            Decoder::Gemini(decoder) => decoder.decode_event(event, &mut deltas),
            Decoder::Bedrock(decoder) => decoder.decode_event(event, &mut deltas),
            Decoder::Ollama(decoder) => decoder.decode_event(event, &mut deltas),
        }?;
        deltas
            .into_iter()
            .try_for_each(|delta| self.tell(delta, out))
    }

    fn tell(&mut self, delta: Delta, out: &mut Vec<u8>) -> Result<(), InvalidReply> {
        if self.tally.is_done || self.tally.is_error {
            return Ok(());
        }
        self.note(&delta);
        match &mut self.encoder {
            Encoder::Chat(encoder) => encoder.encode_event(delta, out),
            Encoder::Messages(encoder) => encoder.encode_event(delta, out),
            Encoder::Responses(encoder) => encoder.encode_event(delta, out),
            Encoder::Completions(encoder) => encoder.encode_event(delta, out),
            Encoder::Ollama(encoder) => encoder.encode_event(delta, out),
        }
    }

    fn note(&mut self, delta: &Delta) {
        match delta {
            Delta::Text(_)
            | Delta::Thinking(_)
            | Delta::Refusal(_)
            | Delta::Redacted(_)
            | Delta::Arguments { .. } => self.tally.pieces += 1,
            Delta::Usage(usage) => {
                self.usage = Some(self.usage.unwrap_or_default().merge(*usage));
            }
            Delta::Finish(_) => self.is_finished = true,
            Delta::End => self.tally.is_done = true,
            Delta::Failed(_) => self.tally.is_error = true,
            Delta::Start { .. }
            | Delta::Signature(_)
            | Delta::Call { .. }
            | Delta::Break
            | Delta::Logprobs(_) => {}
        }
    }
}

/// A text that is gathered from the pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Held(String);

impl Held {
    /// Adds a piece.
    ///
    /// # Errors
    /// [`InvalidReply::TooLong`].
    pub(super) fn push(&mut self, piece: &str) -> Result<(), InvalidReply> {
        if HELD_BYTES_MAX < self.0.len() + piece.len() {
            return Err(InvalidReply::TooLong);
        }
        self.0.push_str(piece);
        Ok(())
    }

    /// The whole text; it is empty after that.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

/// Writes a server-sent event; JSON has no line feeds.
pub(super) fn write_event(out: &mut Vec<u8>, event: &str, data: &[u8]) {
    if !event.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}
