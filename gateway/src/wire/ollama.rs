//! Ollama's `/api/chat`: as the client's API and as the upstream's.
//!
//! Streams are lines of JSON; the last one says that it is. Streaming is what happens unless `stream` is false.

mod decode_reply;
mod decode_request;
mod encode_content;
mod encode_reply;
mod encode_request;
mod lines;

pub(super) use self::{
    decode_reply::{Decoder, decode_reply},
    decode_request::decode_request,
    encode_reply::{Encoder, encode_reply},
    encode_request::encode_request,
    lines::Lines,
};
