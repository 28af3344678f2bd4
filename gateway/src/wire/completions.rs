//! OpenAI's completions, from before there were chats: a prompt is a chat of one message.

mod decode_request;
mod encode_reply;

pub(super) use self::{
    decode_request::decode_request,
    encode_reply::{Encoder, encode_reply},
};
