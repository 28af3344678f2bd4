//! The Gemini API of Google AI Studio: a method of a model in the path, and an API key in a header of its own.

use http::Uri;

use super::{Ask, path::segment};
use crate::call::Operation;

/// The header that carries the API key.
pub(super) const KEY_HEADER: &str = "x-goog-api-key";
/// What some clients write before a model's name.
const PREFIX: &str = "models/";

/// Where a request goes.
pub(super) fn uri(base: &str, ask: Ask<'_>) -> Option<Uri> {
    let base = base.trim_end_matches('/');
    let model = ask.model.strip_prefix(PREFIX).unwrap_or(ask.model);
    let method = match ask.operation {
        Operation::Embedding => ":batchEmbedContents",
        _ => method(ask.is_stream),
    };
    let url = format!("{base}/models/{}{method}", segment(model));
    url.parse().ok()
}

/// The method that answers a chat, whole or streamed.
pub(super) const fn method(is_stream: bool) -> &'static str {
    match is_stream {
        false => ":generateContent",
        true => ":streamGenerateContent?alt=sse",
    }
}
