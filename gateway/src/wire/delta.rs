//! The pieces of a streamed answer, in words that belong to no API.

use super::{
    error::UpstreamFault,
    reply::{Finish, ReplyPart, Usage},
};

/// A piece of a streamed answer.
///
/// A stream is `Start`, pieces, `Finish`, `End`, with `Usage` anywhere. Pieces of text, thoughts and calls belong
/// together while nothing of another kind comes between them and no `Break` does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Delta {
    /// The upstream begins to answer.
    Start {
        /// Its id of the answer.
        id: Option<String>,
    },
    /// More text.
    Text(String),
    /// More thoughts.
    Thinking(String),
    /// The proof of the thoughts so far.
    Signature(String),
    /// Thoughts that only the model's maker can read, all of them.
    Redacted(String),
    /// More of why the model did not do what it was asked.
    Refusal(String),
    /// A call begins.
    Call {
        /// Its place among the answer's calls.
        index: u32,
        /// What its result refers to.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of a call's arguments.
    Arguments {
        /// The call's place among the answer's calls.
        index: u32,
        /// A piece of JSON text.
        json: String,
    },
    /// What comes next does not belong to what came last, even if it is of the same kind.
    Break,
    /// Log probabilities of the tokens in the next piece.
    Logprobs(protocol::openai::Logprobs),
    /// Tokens used so far.
    Usage(Usage),
    /// Why the answer ended.
    Finish(Finish),
    /// The answer is complete.
    End,
    /// The answer ends early.
    Failed(UpstreamFault),
}

impl Delta {
    /// The pieces of a part that came whole; a call has this place among the answer's calls.
    pub(super) fn of_part(part: ReplyPart, index: u32) -> Vec<Self> {
        match part {
            ReplyPart::Text(text) => vec![Self::Text(text)],
            ReplyPart::Thinking(thinking) => {
                let mut deltas = vec![Self::Thinking(thinking.text)];
                deltas.extend(thinking.signature.map(Self::Signature));
                deltas
            }
            ReplyPart::Redacted(data) => vec![Self::Redacted(data)],
            ReplyPart::Refusal(text) => vec![Self::Refusal(text)],
            ReplyPart::Call(call) => vec![
                Self::Call {
                    index,
                    id: call.id,
                    name: call.name,
                },
                Self::Arguments {
                    index,
                    json: call.arguments,
                },
            ],
        }
    }
}
