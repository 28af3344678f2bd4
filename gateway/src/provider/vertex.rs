//! Google's Vertex AI: models of Google's and of Anthropic's below a project, and access tokens for a service account.

use bytes::Bytes;
use http::Uri;
use serde_json::value::{RawValue, to_raw_value};

use super::{Ask, gemini, object::Object, path::segment};
use crate::call::Operation;

/// The field that stands for the header of Anthropic's API.
const VERSION: &str = "anthropic_version";
/// The only version of Anthropic's API there.
const VERSION_VALUE: &str = "vertex-2023-10-16";

/// A project at a location.
#[derive(Debug)]
pub(super) struct Vertex {
    project: String,
    location: String,
}

impl Vertex {
    pub(super) fn new(project: &str, location: &str) -> Self {
        Self {
            project: segment(project),
            location: segment(location),
        }
    }

    /// Where a request goes.
    pub(super) fn uri(&self, base: &str, ask: Ask<'_>) -> Option<Uri> {
        let base = base.trim_end_matches('/');
        let (publisher, method) = match (ask.operation, ask.is_stream) {
            (Operation::Message, false) => ("anthropic", ":rawPredict"),
            (Operation::Message, true) => ("anthropic", ":streamRawPredict"),
            (Operation::Embedding, _) => ("google", ":predict"),
            (_, is_stream) => ("google", gemini::method(is_stream)),
        };
        let (project, location, model) = (&self.project, &self.location, segment(ask.model));
        let url = format!(
            "{base}/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}{method}"
        );
        url.parse().ok()
    }
}

/// Whether a model is one of Anthropic's.
pub(super) fn is_anthropic(model: &str) -> bool {
    model.starts_with("claude")
}

/// A body of Anthropic's API as it has to be there: the model is in the path, and the version in the body.
pub(super) fn shape(body: Bytes) -> Bytes {
    let Ok(version) = to_raw_value(VERSION_VALUE) else {
        return body;
    };
    let Ok(Object(mut fields)) = serde_json::from_slice::<Object<'_>>(&body) else {
        return body;
    };
    fields.retain(|(name, _)| name != "model" && name != VERSION);
    let version: &RawValue = &version;
    fields.insert(0, (VERSION.into(), version));
    serde_json::to_vec(&Object(fields)).map_or_else(|_| body.clone(), Bytes::from)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::Ask, Vertex, shape};
    use crate::call::Operation;

    #[track_caller]
    fn check(operation: Operation, is_stream: bool, model: &str, expected: &str) {
        let vertex = Vertex::new("p-1", "europe-west1");
        let ask = Ask {
            operation,
            model,
            is_stream,
        };
        let base = "https://europe-west1-aiplatform.googleapis.com/v1";
        let path = "projects/p-1/locations/europe-west1/publishers";
        assert_eq!(
            vertex.uri(base, ask).unwrap().to_string(),
            format!("{base}/{path}/{expected}")
        );
    }

    #[test]
    fn a_model_is_asked_at_its_publisher() {
        check(
            Operation::Chat,
            true,
            "gemini-2.5-pro",
            "google/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        );
        check(
            Operation::Message,
            false,
            "claude-sonnet-4-5@20250929",
            "anthropic/models/claude-sonnet-4-5%4020250929:rawPredict",
        );
    }

    #[test]
    fn the_model_leaves_the_body_and_the_version_comes_in() {
        let body = Bytes::from_static(br#"{"x":1.50,"model":"m","anthropic_version":"other"}"#);
        let expected = r#"{"anthropic_version":"vertex-2023-10-16","x":1.50}"#;
        assert_eq!(shape(body), expected);
    }
}
