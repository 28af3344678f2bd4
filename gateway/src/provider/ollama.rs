//! Ollama: chats and embeddings by its own API, completions by the part of OpenAI's that it answers too.

use http::Uri;
use protocol::provider::Api;

use super::Ask;
use crate::call::Operation;

/// What it answers of OpenAI's API as well as by its own.
pub(super) const APIS: [Api; 1] = [Api::Completions];
/// Where it answers OpenAI's API.
const OPENAI: &str = "/v1";

/// Where a request goes; the base URL is the server's, with `/v1` or without.
pub(super) fn uri(base: &str, ask: Ask<'_>) -> Option<Uri> {
    let base = base.trim_end_matches('/');
    let server = base.strip_suffix(OPENAI).unwrap_or(base);
    let url = match ask.operation {
        Operation::Chat => format!("{server}/api/chat"),
        Operation::Embedding => format!("{server}/api/embed"),
        operation => format!("{server}{OPENAI}{}", operation.path()),
    };
    url.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::Ask, uri};
    use crate::call::Operation;

    #[track_caller]
    fn check(base: &str, operation: Operation, expected: &str) {
        let ask = Ask {
            operation,
            model: "m",
            is_stream: true,
        };
        assert_eq!(uri(base, ask).unwrap(), expected);
    }

    #[test]
    fn chats_go_to_ollamas_api_and_the_rest_to_openais() {
        check("http://o:11434", Operation::Chat, "http://o:11434/api/chat");
        check(
            "http://o:11434/v1/",
            Operation::Chat,
            "http://o:11434/api/chat",
        );
        check(
            "http://o:11434",
            Operation::Embedding,
            "http://o:11434/api/embed",
        );
        check(
            "http://o:11434",
            Operation::Completion,
            "http://o:11434/v1/completions",
        );
    }
}
