//! The Converse API of Amazon Bedrock, and its way to ask a model in the model's own words: a model in the path, and
//! signatures or an API key.

use http::Uri;

use super::{Ask, path::segment};
use crate::call::Operation;

/// The service that signatures are for.
pub(crate) const SERVICE: &str = "bedrock";

/// Where a request goes.
pub(super) fn uri(base: &str, ask: Ask<'_>) -> Option<Uri> {
    let base = base.trim_end_matches('/');
    let method = match (ask.operation, ask.is_stream) {
        (Operation::Embedding, _) => "invoke",
        (_, false) => "converse",
        (_, true) => "converse-stream",
    };
    let url = format!("{base}/model/{}/{method}", segment(ask.model));
    url.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::Ask, uri};
    use crate::call::Operation;

    #[test]
    fn an_inference_profile_stays_one_segment() {
        let ask = Ask {
            operation: Operation::Chat,
            model: "arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0",
            is_stream: true,
        };
        let found = uri("https://bedrock-runtime.us-east-1.amazonaws.com/", ask).unwrap();
        assert_eq!(
            found.path(),
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x-v1%3A0/converse-stream"
        );
    }
}
