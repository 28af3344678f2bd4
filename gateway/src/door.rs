//! What tools and agents need of a request's head: by which URL the client knows us, and where it is sent without a key.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri, header};

use crate::{
    call::Surface,
    encode::{self, Body},
    fault::Fault,
};

/// Where the metadata of a protected resource lie (RFC 9728), before the resource's own path.
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";

/// What a request says before its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// The URI.
    pub(crate) uri: &'a Uri,
    /// The headers.
    pub(crate) headers: &'a HeaderMap,
}

/// What a client without a key is told: where it gets a token, if that is anywhere.
pub(crate) fn unauthorized(fault: &Fault, head: Head<'_>, issuers: &[String]) -> Response<Body> {
    let mut response = encode::fault(fault, Surface::OpenAi);
    let challenge = match base_url(head) {
        Some(base) if !issuers.is_empty() => {
            format!(
                "Bearer resource_metadata=\"{base}{METADATA}{}\"",
                head.uri.path().trim_end_matches('/')
            )
        }
        _ => "Bearer".to_owned(),
    };
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The URL by which the client knows the gateway.
pub(crate) fn base_url(head: Head<'_>) -> Option<String> {
    const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-proto");
    let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|host| host.as_str().as_bytes());
    let host = std::str::from_utf8(host.or(authority)?).ok()?;
    let is_plain = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
    let is_secure = head
        .headers
        .get(FORWARDED)
        .is_some_and(|scheme| scheme == "https");
    let scheme = if is_secure { "https" } else { "http" };
    is_plain.then(|| format!("{scheme}://{host}"))
}
