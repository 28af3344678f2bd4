//! Azure's variant of OpenAI's API: an API key in a header of its own, and deployments in the path.

use http::Uri;
use protocol::provider::Api;

use super::{Ask, path::segment};

/// The header that carries the API key.
pub(super) const KEY_HEADER: &str = "api-key";
/// The path of the API that has no versions.
const UNVERSIONED: &str = "/openai/v1";

/// How a resource is asked.
#[derive(Debug)]
pub(super) struct Azure {
    api_version: Option<String>,
}

impl Azure {
    pub(super) fn new(api_version: Option<String>) -> Self {
        Self { api_version }
    }

    /// What it answers where the Model does not say.
    pub(super) const fn apis(&self) -> &'static [Api] {
        match self.api_version {
            Some(_) => &[Api::Chat, Api::Completions, Api::Embeddings],
            None => &[Api::Chat, Api::Completions, Api::Embeddings, Api::Responses],
        }
    }

    /// Where a request goes; the base URL is the resource's, with `/openai/v1` or without.
    pub(super) fn uri(&self, base: &str, ask: Ask<'_>) -> Option<Uri> {
        let base = base.trim_end_matches('/');
        let resource = base.strip_suffix(UNVERSIONED).unwrap_or(base);
        let path = ask.operation.path();
        let url = match &self.api_version {
            None => format!("{resource}{UNVERSIONED}{path}"),
            Some(version) => {
                let deployment = segment(ask.model);
                format!("{resource}/openai/deployments/{deployment}{path}?api-version={version}")
            }
        };
        url.parse().ok()
    }

    /// Where files and batches are; the path may have a query.
    pub(super) fn objects_uri(&self, base: &str, path: &str) -> Option<Uri> {
        let base = base.trim_end_matches('/');
        let resource = base.strip_suffix(UNVERSIONED).unwrap_or(base);
        let sign = if path.contains('?') { '&' } else { '?' };
        let url = match &self.api_version {
            None => format!("{resource}{UNVERSIONED}{path}"),
            Some(version) => format!("{resource}/openai{path}{sign}api-version={version}"),
        };
        url.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Ask, Azure};
    use crate::call::Operation;

    #[track_caller]
    fn check(version: Option<&str>, base: &str, model: &str, expected: &str) {
        let azure = Azure::new(version.map(str::to_owned));
        let ask = Ask {
            operation: Operation::Chat,
            model,
            is_stream: false,
        };
        assert_eq!(azure.uri(base, ask).unwrap(), expected);
    }

    #[test]
    fn a_version_puts_the_deployment_into_the_path() {
        let base = "https://r.openai.azure.com";
        check(
            Some("2024-10-21"),
            base,
            "gpt-4o",
            "https://r.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        );
        check(
            Some("2024-10-21"),
            "https://r.openai.azure.com/",
            "a/b?c",
            "https://r.openai.azure.com/openai/deployments/a%2Fb%3Fc/chat/completions?api-version=2024-10-21",
        );
        let plain = "https://r.openai.azure.com/openai/v1/chat/completions";
        check(None, base, "gpt-4o", plain);
        check(
            None,
            "https://r.openai.azure.com/openai/v1/",
            "gpt-4o",
            plain,
        );
    }
}
