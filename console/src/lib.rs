//! The web page, compiled into the binary: chat with models, run agents, read usage.
//!
//! The page is served on loopback to one person. It holds no key: what it asks goes through [`router`], which adds the
//! key and passes the answer on as it comes. A random word in the address that `qd console` prints lets the page in.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State},
    response::{Html, IntoResponse, Response},
    routing::{any, get},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use protocol::secret::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PAGE: &str = include_str!("page.html");
const COOKIE: &str = "quarterdeck-console";
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 4 << 20;
/// The page loads nothing from elsewhere and talks to nobody else.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";

/// What the page talks to.
#[derive(Debug, Clone)]
pub struct ConsoleConfig {
    /// The gateway's base URL, with `/v1`.
    pub gateway: String,
    /// The agent runtime's base URL, with `/v1`.
    pub agents: String,
    /// The key for both.
    pub key: SecretString,
    /// The word that lets a browser in.
    pub admission: SecretString,
}

/// Serves the page until `shutdown`.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    config: ConsoleConfig,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(config))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// The address to open, for a listener's address.
pub fn address(listener: SocketAddr, config: &ConsoleConfig) -> String {
    format!("http://{listener}/?admission={}", config.admission.expose())
}

/// The page and the way to gateway and agents.
pub fn router(config: ConsoleConfig) -> Router {
    let state = Arc::new(Console {
        config,
        client: reqwest::Client::new(),
    });
    Router::new()
        .route("/", get(page))
        .route("/{plane}/{*path}", any(pass))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}

struct Console {
    config: ConsoleConfig,
    client: reqwest::Client,
}

impl Console {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let expected = format!("{COOKIE}={}", self.config.admission.expose());
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|value| value.split("; "))
            .any(|cookie| cookie == expected)
    }
}

#[derive(Debug, serde::Deserialize)]
struct Admission {
    admission: Option<String>,
}

async fn page(
    State(console): State<Arc<Console>>,
    Query(query): Query<Admission>,
    headers: HeaderMap,
) -> Response {
    let admission = console.config.admission.expose();
    if query.admission.as_deref() == Some(admission) {
        let cookie = format!("{COOKIE}={admission}; HttpOnly; SameSite=Strict; Path=/");
        return (
            StatusCode::SEE_OTHER,
            [
                (header::SET_COOKIE, cookie),
                (header::LOCATION, "/".to_owned()),
            ],
        )
            .into_response();
    }
    if !console.admits(&headers) {
        return (
            StatusCode::FORBIDDEN,
            "open the address that `qd console` printed\n",
        )
            .into_response();
    }
    let policy = (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_POLICY),
    );
    ([policy], Html(PAGE)).into_response()
}

async fn pass(
    State(console): State<Arc<Console>>,
    Path((plane, path)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !console.admits(&headers) {
        return (
            StatusCode::FORBIDDEN,
            "open the address that `qd console` printed\n",
        )
            .into_response();
    }
    let base = match plane.as_str() {
        "gateway" => &console.config.gateway,
        "agents" => &console.config.agents,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let mut request = console
        .client
        .request(method, format!("{base}/{path}"))
        .body(body);
    for name in [header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    match request
        .bearer_auth(console.config.key.expose())
        .send()
        .await
    {
        Ok(answer) => pass_back(answer),
        Err(error) => (
            StatusCode::BAD_GATEWAY,
            format!("{plane} did not answer: {error}\n"),
        )
            .into_response(),
    }
}

fn pass_back(answer: reqwest::Response) -> Response {
    let (status, content_type) = (
        answer.status(),
        answer.headers().get(header::CONTENT_TYPE).cloned(),
    );
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
    }
    response
}

#[cfg(test)]
mod tests;
