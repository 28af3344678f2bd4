//! Google's `generateContent` and `streamGenerateContent`, at Gemini's API and at Vertex: as upstreams.
//!
//! The model's name stands in the URL, not in the body. Streams are server-sent events (`alt=sse`).

mod decode;
mod decode_event;
mod encode_content;
mod encode_request;
mod generation;
mod schema;

pub(super) use self::{
    decode::decode_reply, decode_event::Decoder, encode_request::encode_request,
};
