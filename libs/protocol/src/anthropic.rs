//! The Anthropic API: what clients of `/v1/messages` send, and what they are answered.
//!
//! Source: the Anthropic API reference (messages, streaming, token counting, errors).

mod block;
mod error;
mod event;
mod message;
mod model;

pub use block::{Block, BlockContent, ImageSource};
pub use error::{ErrorBody, ErrorDetail};
pub use event::{BlockDelta, MessageDelta, MessageEvent};
pub use message::{
    CountRequest, CountResponse, InputMessage, Message, MessageUsage, MessagesRequest, StopReason,
    Thinking, Tool, ToolChoice,
};
pub use model::{Model, ModelList};
