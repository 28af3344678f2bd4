//! Ollama's `/api/chat`: as the client's API and as the upstream's; and its clients' other ways to ask.
//!
//! Streams are lines of JSON; the last one says that it is. Streaming is what happens unless `stream` is false.

mod decode_reply;
mod decode_request;
mod embed;
mod encode_content;
mod encode_reply;
mod encode_request;
mod generate;
mod lines;

pub(super) use self::{
    decode_reply::{Decoder, decode_reply},
    decode_request::decode_request,
    encode_reply::{Encoder, encode_reply},
    encode_request::encode_request,
    generate::decode_generation,
    lines::Lines,
};
pub(crate) use self::{
    embed::{EmbedForm, answer_embeddings, ask_embeddings},
    encode_request::with_model,
    generate::generation_as_chat,
};
