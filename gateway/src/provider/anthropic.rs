//! Anthropic's API: an API key in a header of its own, and the version and beta headers of clients.

use http::{HeaderName, HeaderValue};
use protocol::provider::Api;

/// What it answers.
pub(super) const APIS: [Api; 2] = [Api::Messages, Api::CountTokens];
/// The header that carries the API key.
pub(super) const KEY_HEADER: &str = "x-api-key";
/// The header that names the API's version.
pub(super) const VERSION_HEADER: HeaderName = HeaderName::from_static("anthropic-version");
/// The version of the API that all servers of it know, for clients that name none.
pub(super) const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
/// Headers of clients that are passed on: which version they know, and which beta features they use.
pub(super) const PASSED: [HeaderName; 2] =
    [VERSION_HEADER, HeaderName::from_static("anthropic-beta")];
