//! HTTP requests to sources: redirects that do not carry credentials away, bounded answers, refusals in our words.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use reqwest::header::{self, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode, Url};
use tokio::time::timeout;

use super::access::Access;
use super::error::FetchError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for an answer's head, and longest silence in the middle of a body.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 10;
/// How much of a refusal is read for the server's words.
const REFUSAL_BYTES_MAX: usize = 4096;
const SAID_LENGTH_MAX: usize = 300;

/// Where a hub says what the file behind a redirect is.
const LINKED_DIGEST: &str = "x-linked-etag";
const COMMIT: &str = "x-repo-commit";

/// A client of all sources.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
}

/// The last answer of a chain of redirects.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// The SHA-256 that the first server names for the file.
    pub(super) linked_digest: Option<String>,
    /// The commit that the first server names.
    pub(super) commit: Option<String>,
}

impl Client {
    pub(super) fn new() -> Result<Self, FetchError> {
        // Somebody else may have chosen a provider already; then it is that one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let built = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .build();
        let fail = |error| FetchError::Setup(format!("the HTTP client cannot be set up: {error}"));
        built.map(|http| Self { http }).map_err(fail)
    }

    /// Asks for `url`, follows redirects and answers a challenge. Only the origin of `url` gets the credentials.
    pub(super) async fn get(
        &self,
        url: &Url,
        access: &Access,
        extra: &HeaderMap,
    ) -> Result<Answer, FetchError> {
        let (mut current, mut is_challenged, mut redirects) = (url.clone(), false, 0);
        let (mut linked_digest, mut commit) = (None, None);
        loop {
            let is_home = current.origin() == url.origin();
            let mut headers = extra.clone();
            if is_home {
                headers.extend(access.headers(&current, Timestamp::now())?);
            }
            let response = self.once(&current, headers).await?;
            if is_home {
                let note = |name| text_of(response.headers(), name);
                linked_digest = linked_digest.or_else(|| note(LINKED_DIGEST));
                commit = commit.or_else(|| note(COMMIT));
            }
            if response.status() == StatusCode::UNAUTHORIZED && is_home && !is_challenged {
                is_challenged = true;
                if access.answer(self, &current, response.headers()).await? {
                    continue;
                }
            }
            match next_place(&current, &response, access)? {
                Some(next) => current = next,
                None => {
                    return Ok(Answer {
                        response,
                        linked_digest: linked_digest.as_deref().and_then(sha256_of_tag),
                        commit,
                    });
                }
            }
            redirects += 1;
            if REDIRECTS_MAX < redirects {
                let reason = format!("more than {REDIRECTS_MAX} redirects");
                return Err(unreachable(url, &reason));
            }
        }
    }

    /// One request, without redirects.
    pub(super) async fn once(&self, url: &Url, headers: HeaderMap) -> Result<Response, FetchError> {
        let request = self
            .http
            .get(url.clone())
            .header(header::ACCEPT_ENCODING, "identity")
            .headers(headers);
        let answer = timeout(READ_TIMEOUT, request.send()).await;
        let answer =
            answer.map_err(|_| unreachable(url, &format!("no answer for {READ_TIMEOUT:?}")))?;
        answer.map_err(|error| unreachable(url, &chain(&error.without_url())))
    }

    /// A document of at most `bytes_max`, and its headers.
    pub(super) async fn document(
        &self,
        url: &Url,
        access: &Access,
        extra: &HeaderMap,
        bytes_max: usize,
    ) -> Result<(HeaderMap, Vec<u8>), FetchError> {
        let response = self.get(url, access, extra).await?.response;
        if !response.status().is_success() {
            return Err(refusal(url, response).await);
        }
        let headers = response.headers().clone();
        let body = body(url, response, bytes_max).await?;
        Ok((headers, body))
    }
}

/// A body of at most `bytes_max`.
pub(super) async fn body(
    url: &Url,
    response: Response,
    bytes_max: usize,
) -> Result<Vec<u8>, FetchError> {
    match read(response, bytes_max).await {
        Ok(Body::Whole(body)) => Ok(body),
        Ok(Body::Cut(_)) => Err(FetchError::Broken(format!(
            "{} is longer than {bytes_max} bytes, which no such document is",
            shown(url)
        ))),
        Err(reason) => Err(unreachable(url, &reason)),
    }
}

/// Where a redirect leads.
fn next_place(
    current: &Url,
    response: &Response,
    access: &Access,
) -> Result<Option<Url>, FetchError> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    if !is_redirect || !access.follows_redirects() {
        return Ok(None);
    }
    let Some(place) = text_of(response.headers(), "location") else {
        return Ok(None);
    };
    let next = current
        .join(&place)
        .map_err(|_| unreachable(current, "it redirects to no valid address"))?;
    let is_kept = match (current.scheme(), next.scheme()) {
        ("https", scheme) => scheme == "https",
        (_, scheme) => matches!(scheme, "http" | "https"),
    };
    if is_kept {
        return Ok(Some(next));
    }
    let reason = format!("it redirects to {}, which is not as safe", shown(&next));
    Err(unreachable(current, &reason))
}

/// A refusal in our words, and in the server's.
pub(super) async fn refusal(url: &Url, response: Response) -> FetchError {
    let (what, status) = (shown(url), response.status());
    let wait = text_of(response.headers(), "retry-after").and_then(|text| wait_of(&text));
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            let advice = "correct the source's address; it is looked for again".to_owned();
            FetchError::NotFound { what, advice }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FetchError::Unauthorized {
            what,
            said: said(response).await,
        },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FetchError::Busy {
            what,
            status: status.as_u16(),
            wait,
        },
        status if status.is_client_error() || status.is_redirection() => FetchError::Refused {
            what,
            status: status.as_u16(),
            said: said(response).await,
        },
        status => unreachable(url, &format!("the server answered {status}")),
    }
}

/// `Retry-After`: seconds, or a date.
fn wait_of(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(
        date.duration_since(Timestamp::now())
            .try_into()
            .unwrap_or_default(),
    )
}

/// What the server says about a refusal, without anything that does not belong into a line.
async fn said(response: Response) -> String {
    let header = ["x-error-message", "x-amz-bucket-region"]
        .iter()
        .find_map(|name| Some(format!("{name}: {}", text_of(response.headers(), name)?)));
    let text = match header {
        Some(text) => Some(text),
        None => match read(response, REFUSAL_BYTES_MAX).await {
            Ok(Body::Whole(body) | Body::Cut(body)) => words(&String::from_utf8_lossy(&body)),
            Err(_) => None,
        },
    };
    let Some(text) = text else {
        return String::new();
    };
    let plain: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(SAID_LENGTH_MAX)
        .collect();
    format!("; it says: {}", plain.trim())
}

/// The message in a body as registries, hubs (JSON) and object stores (XML) send it.
fn words(body: &str) -> Option<String> {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(body) {
        let places = ["/errors/0/message", "/error/message", "/error", "/message"];
        let found = places
            .iter()
            .find_map(|place| json.pointer(place)?.as_str());
        return found.map(str::to_owned);
    }
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    };
    let code = element("Code")?;
    Some(element("Message").map_or_else(|| code.clone(), |message| format!("{code}: {message}")))
}

#[derive(Debug)]
enum Body {
    Whole(Vec<u8>),
    Cut(Vec<u8>),
}

/// Reads a body up to a length.
async fn read(response: Response, bytes_max: usize) -> Result<Body, String> {
    let (mut stream, mut body) = (response.bytes_stream(), Vec::new());
    loop {
        let next = timeout(READ_TIMEOUT, stream.next()).await;
        let Some(piece) = next.map_err(|_| format!("nothing came for {READ_TIMEOUT:?}"))? else {
            return Ok(Body::Whole(body));
        };
        let piece = piece.map_err(|error| chain(&error.without_url()))?;
        let room = bytes_max - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if room < piece.len() {
            return Ok(Body::Cut(body));
        }
    }
}

pub(super) fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// A tag that is a SHA-256, as hubs send for large files.
fn sha256_of_tag(tag: &str) -> Option<String> {
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    super::digest::is_hex(tag, 64).then(|| tag.to_ascii_lowercase())
}

/// An address without what may be secret in it: user, password and query.
pub(super) fn shown(url: &Url) -> String {
    let port = url
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

pub(super) fn unreachable(url: &Url, reason: &str) -> FetchError {
    FetchError::Unreachable {
        what: shown(url),
        reason: reason.to_owned(),
    }
}

/// An error with its causes: reqwest's own message says little.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{sha256_of_tag, shown, wait_of, words};

    #[test]
    fn servers_words_are_found() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no pull"}]}"#,
                Some("no pull"),
            ),
            (r#"{"error":"gated"}"#, Some("gated")),
            (
                "<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>",
                Some("NoSuchKey: gone"),
            ),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(words(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn waits_are_read() {
        assert_eq!(wait_of("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            wait_of("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO)
        );
        assert_eq!(wait_of("soon"), None);
    }

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let url = "https://user:pass@host.test:8443/m.gguf?X-Amz-Signature=1"
            .parse()
            .unwrap();
        assert_eq!(shown(&url), "https://host.test:8443/m.gguf");
    }

    #[test]
    fn a_tag_is_a_digest_or_not() {
        let hex = "AB".repeat(32);
        assert_eq!(sha256_of_tag(&format!("\"{hex}\"")), Some("ab".repeat(32)));
        assert_eq!(sha256_of_tag("\"686897696a7c876b7e\""), None);
    }
}
