//! Ways: how an operation reaches a target, as it is or in another API. Pure.

use protocol::provider::Api;

use crate::{
    call::Operation,
    wire::{ClientApi, EmbeddingsApi, UpstreamApi},
};

/// How an operation reaches a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As it is.
    Native,
    /// In another API.
    Translated {
        /// The client's API.
        client: ClientApi,
        /// The target's API.
        upstream: UpstreamApi,
    },
    /// As embeddings of another API.
    Embedded(EmbeddingsApi),
    /// Not at all.
    Unspoken,
}

impl Way {
    /// How an operation reaches a target that answers these.
    pub(super) fn of(operation: Operation, apis: &[Api]) -> Self {
        if api(operation).is_some_and(|api| apis.contains(&api)) {
            return Self::Native;
        }
        let upstream = [
            (Api::Chat, UpstreamApi::Chat),
            (Api::Messages, UpstreamApi::Messages),
        ]
        .into_iter()
        .find(|(api, _)| apis.contains(api));
        match upstream {
            Some((_, upstream)) => Self::to(operation, upstream),
            None => Self::Unspoken,
        }
    }

    /// How an operation reaches a target that answers only this API.
    pub(super) fn to(operation: Operation, upstream: UpstreamApi) -> Self {
        match client(operation) {
            Some(client) => Self::Translated { client, upstream },
            None => Self::Unspoken,
        }
    }
}

/// The API that an operation belongs to, if it can be translated from.
const fn client(operation: Operation) -> Option<ClientApi> {
    match operation {
        Operation::Chat => Some(ClientApi::Chat),
        Operation::Message => Some(ClientApi::Messages),
        Operation::Response => Some(ClientApi::Responses),
        Operation::Completion => Some(ClientApi::Completions),
        _ => None,
    }
}

/// The operation that an upstream is asked for in its API; a chat where the API has none of ours.
pub(super) const fn asked(upstream: UpstreamApi) -> Operation {
    match upstream {
        UpstreamApi::Chat | UpstreamApi::Gemini | UpstreamApi::Bedrock | UpstreamApi::Ollama => {
            Operation::Chat
        }
        UpstreamApi::Messages => Operation::Message,
    }
}

/// The part of the APIs that an operation belongs to, if Models can name it.
const fn api(operation: Operation) -> Option<Api> {
    match operation {
        Operation::Chat => Some(Api::Chat),
        Operation::Completion => Some(Api::Completions),
        Operation::Embedding => Some(Api::Embeddings),
        Operation::Response | Operation::ResponseTokenCount | Operation::ResponseCompaction => {
            Some(Api::Responses)
        }
        Operation::Message => Some(Api::Messages),
        Operation::TokenCount => Some(Api::CountTokens),
        Operation::Rerank
        | Operation::Moderation
        | Operation::Tokenization
        | Operation::Detokenization
        | Operation::ImageGeneration
        | Operation::ImageEdit
        | Operation::ImageVariation
        | Operation::Speech
        | Operation::Transcription
        | Operation::Realtime
        | Operation::Translation
        | Operation::ToolCall
        | Operation::AgentCall => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::provider::Api;

    use super::Way;
    use crate::{
        call::Operation,
        wire::{ClientApi, UpstreamApi},
    };

    #[track_caller]
    fn check(operation: Operation, apis: &[Api], expected: Way) {
        assert_eq!(Way::of(operation, apis), expected);
    }

    #[test]
    fn what_a_target_does_not_answer_is_translated_where_that_can_be() {
        for operation in [Operation::Chat, Operation::Response, Operation::TokenCount] {
            check(operation, &Api::ALL, Way::Native);
            check(operation, &[], Way::Unspoken);
        }
        check(Operation::Speech, &Api::ALL, Way::Unspoken);
        let plain = protocol::vendor::PLAIN;
        let translated = |client, upstream| Way::Translated { client, upstream };
        check(Operation::Embedding, &plain, Way::Native);
        check(
            Operation::Message,
            &plain,
            translated(ClientApi::Messages, UpstreamApi::Chat),
        );
        check(
            Operation::Response,
            &plain,
            translated(ClientApi::Responses, UpstreamApi::Chat),
        );
        check(
            Operation::Chat,
            &[Api::Messages],
            translated(ClientApi::Chat, UpstreamApi::Messages),
        );
        check(Operation::TokenCount, &plain, Way::Unspoken);
        check(Operation::Message, &[Api::Embeddings], Way::Unspoken);
    }
}
