//! Amazon Bedrock's `Converse` and `ConverseStream`: as upstreams.
//!
//! The model's name stands in the URL, not in the body. Streams are binary frames (`frames`).

mod decode;
mod decode_event;
mod encode_content;
mod encode_request;
mod frames;
mod model_fields;

#[cfg(any(test, fuzzing))]
pub(super) use self::frames::frame;
pub(super) use self::{
    decode::decode_reply, decode_event::Decoder, encode_request::encode_request, frames::Frames,
    model_fields::put_in_marks,
};
