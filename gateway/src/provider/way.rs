//! Ways: how an operation reaches a target, if at all. Pure.

use protocol::provider::Api;

use crate::call::Operation;

/// How an operation reaches a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As it is.
    Native,
    /// Not at all.
    Unspoken,
}

impl Way {
    /// How an operation reaches a target that answers these.
    pub(super) fn of(operation: Operation, apis: &[Api]) -> Self {
        if api(operation).is_some_and(|api| apis.contains(&api)) {
            return Self::Native;
        }
        Self::Unspoken
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
        | Operation::Translation
        | Operation::ToolCall => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::provider::Api;

    use super::Way;
    use crate::call::Operation;

    #[track_caller]
    fn check(operation: Operation, apis: &[Api], expected: Way) {
        assert_eq!(Way::of(operation, apis), expected);
    }

    #[test]
    fn an_operation_reaches_who_answers_it() {
        for operation in [Operation::Chat, Operation::Response, Operation::TokenCount] {
            check(operation, &Api::ALL, Way::Native);
            check(operation, &[], Way::Unspoken);
        }
        check(Operation::Speech, &Api::ALL, Way::Unspoken);
        let plain = protocol::vendor::PLAIN;
        check(Operation::Embedding, &plain, Way::Native);
        check(Operation::TokenCount, &plain, Way::Unspoken);
    }
}
