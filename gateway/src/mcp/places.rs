//! Which servers are behind a path, which web pages may call, and where clients without a key are sent.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::{Head, directory::Seat, empty, refuse};
use crate::{
    call::Surface,
    encode::{self, Body},
    fault::Fault,
    table::Table,
};

/// Where the metadata of a protected resource lie (RFC 9728), before the resource's own path.
pub(super) const METADATA: &str = "/.well-known/oauth-protected-resource";

/// The servers behind a path.
pub(super) fn seats(table: &Table, path: &str) -> Vec<Seat> {
    let all = table.tools.seats.iter();
    if path == "/mcp" {
        return all.cloned().collect();
    }
    let Some(id) = path.strip_prefix("/mcp/") else {
        return Vec::new();
    };
    // Of one route each server has its own name, whatever it is called among all.
    let routes = table.routes.iter().filter(|route| route.id == id);
    let seats = routes.flat_map(|route| {
        let servers = route.mcp.iter().flat_map(|mcp| &mcp.servers);
        servers.map(|server| Seat {
            prefix: server.name.clone(),
            server: Arc::clone(server),
            route: Arc::clone(route),
        })
    });
    seats.collect()
}

/// The page that calls, if a browser says so and a route allows it.
pub(super) fn origin(
    seats: &[Seat],
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, &'static str> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(None);
    };
    let mut allowed = seats
        .iter()
        .filter_map(|seat| seat.route.mcp.as_ref())
        .flat_map(|mcp| &mcp.allowed_origins);
    if allowed.any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        Ok(Some(origin.clone()))
    } else {
        Err(
            "Pages of this origin may not call here. The Route names those that may in spec.mcp.allowedOrigins.",
        )
    }
}

/// What a browser is told before it calls.
pub(super) fn preflight() -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, mcp-session-id, mcp-protocol-version, mcp-method, mcp-name, last-event-id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets the page read the answer.
pub(super) fn share(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    let exposed = HeaderValue::from_static("mcp-session-id, www-authenticate");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// The issuers of tokens for these servers.
pub(super) fn issuers(seats: &[Seat]) -> Vec<String> {
    let mut issuers: Vec<String> = Vec::new();
    for mcp in seats.iter().filter_map(|seat| seat.route.mcp.as_ref()) {
        for issuer in &mcp.authorization_servers {
            if !issuers.contains(issuer) {
                issuers.push(issuer.clone());
            }
        }
    }
    issuers
}

/// What a client without a key is told: where it gets a token, if that is anywhere.
pub(super) fn unauthorized(fault: &Fault, head: Head<'_>, issuers: &[String]) -> Response<Body> {
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

/// The metadata of the resource behind a path: where tokens for it are had.
pub(super) fn metadata(table: &Table, head: Head<'_>) -> Response<Body> {
    let path = head.uri.path().strip_prefix(METADATA).unwrap_or_default();
    let issuers = issuers(&seats(table, path));
    let (Some(base), false) = (base_url(head), issuers.is_empty()) else {
        let message = "No tokens are issued for this path.";
        return refuse(StatusCode::NOT_FOUND, message);
    };
    let body = json!({
        "resource": format!("{base}{path}"),
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
    });
    encode::json(StatusCode::OK, &body)
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
