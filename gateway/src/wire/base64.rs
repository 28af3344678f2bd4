//! Base64, where an API wants the bytes themselves.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The text that base64 holds; `None` if it is not base64, or not UTF-8.
pub(super) fn decode_text(data: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}
