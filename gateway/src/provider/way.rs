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
        if apis.contains(&api(operation)) {
            return Self::Native;
        }
        Self::Unspoken
    }
}

const fn api(operation: Operation) -> Api {
    match operation {
        Operation::Chat => Api::Chat,
        Operation::Completion => Api::Completions,
        Operation::Embedding => Api::Embeddings,
        Operation::Response => Api::Responses,
        Operation::Message => Api::Messages,
        Operation::TokenCount => Api::CountTokens,
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
        for operation in Operation::ALL {
            check(operation, &Api::ALL, Way::Native);
            check(operation, &[], Way::Unspoken);
        }
        let plain = protocol::vendor::PLAIN;
        check(Operation::Embedding, &plain, Way::Native);
        check(Operation::TokenCount, &plain, Way::Unspoken);
    }
}
