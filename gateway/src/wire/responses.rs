//! OpenAI's responses: what clients ask and are answered.
//!
//! Nothing is stored: each request holds the whole conversation, and what the model thought comes back sealed in
//! `encrypted_content`.

mod blob;
mod decode_items;
mod decode_request;
mod encode_event;
mod encode_reply;
mod object;

pub(super) use self::{
    decode_request::decode_request, encode_event::Encoder, encode_reply::encode_reply,
};
