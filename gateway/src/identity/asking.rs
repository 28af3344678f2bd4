//! Asks the servers that give credentials: bounded, without redirects, and without a word of a secret in what went wrong.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use protocol::{
    address::{host_of, is_forbidden_host},
    secret::SecretString,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::{NoToken, Unusable, held::Fresh, secret};
use crate::upstream::Upstream;

/// Bytes of a server's answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a file with a token or a credential.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Characters of a code in a server's refusal that are told.
const CODE_LENGTH_MAX: usize = 64;

/// A token, as OAuth 2 answers with it.
#[derive(Deserialize)]
pub(super) struct Granted {
    /// The token.
    pub(super) access_token: SecretString,
    /// Seconds that it lasts.
    pub(super) expires_in: u64,
}

impl Granted {
    /// The header that shows it.
    pub(super) fn shown(&self) -> Result<Fresh<HeaderValue>, NoToken> {
        Ok(Fresh {
            value: bearer(self.access_token.expose())?,
            lasts: Duration::from_secs(self.expires_in),
        })
    }
}

/// Something that a server cannot be asked, or did not answer, in words.
pub(super) fn unreachable(reason: &str) -> NoToken {
    NoToken::Unreachable(reason.to_owned())
}

/// The address of a server that requests may go to.
pub(super) fn address(url: &str) -> Result<Uri, Unusable> {
    let unusable = || Unusable("its credential names a server that nobody may ask".to_owned());
    if host_of(url).is_none_or(is_forbidden_host) {
        return Err(unusable());
    }
    url.parse().map_err(|_| unusable())
}

/// The value of the header `Authorization`.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, NoToken> {
    sensitive(&format!("Bearer {token}"))
}

/// A header's value that is shown to nobody.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, NoToken> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| unreachable("the credential cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A form.
pub(super) fn encoded(pairs: &[(&str, &str)]) -> Bytes {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(pairs);
    Bytes::from(body.finish())
}

/// A request with a form.
pub(super) fn form(uri: &Uri, body: Bytes) -> Result<Request<Full<Bytes>>, NoToken> {
    Request::builder()
        .method(Method::POST)
        .uri(uri.clone())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(body))
        .map_err(|_| unreachable("the server's address makes no request"))
}

/// The body of a server's answer.
pub(super) async fn ask(
    upstream: &Upstream,
    request: Request<Full<Bytes>>,
) -> Result<Bytes, NoToken> {
    let response = upstream.request(request).await;
    let response = response.map_err(|_| unreachable("the token server cannot be reached"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    let body = body
        .await
        .map_err(|_| unreachable("the token server's answer broke"))?
        .to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let told = code(&body).map_or(String::new(), |code| format!(": {code}"));
    let message = format!("the token server answered with status {status}{told}");
    let is_refused = status.is_client_error() && !matches!(status.as_u16(), 408 | 429);
    Err(match is_refused {
        true => NoToken::Refused(message),
        false => NoToken::Unreachable(message),
    })
}

/// What an answer of JSON says.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, NoToken> {
    serde_json::from_slice(body)
        .map_err(|_| unreachable("the token server's answer holds no credential"))
}

/// How long something lasts that ends then.
pub(super) fn until(end: &str) -> Result<Duration, NoToken> {
    let end: Result<Timestamp, _> = end.parse();
    let end = end.map_err(|_| unreachable("the token server's answer holds no time"))?;
    let seconds = end.duration_since(Timestamp::now()).as_secs();
    Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// The text of a file of the gateway's own.
pub(super) async fn file(path: &Path) -> Result<SecretString, NoToken> {
    let shown = path.display();
    let failed = |why: String| NoToken::Unreachable(format!("reading {shown}: {why}"));
    let opened = tokio::fs::File::open(path).await;
    let opened = opened.map_err(|error| failed(error.kind().to_string()))?;
    let mut text = String::new();
    let mut bounded = opened.take(FILE_BYTES_MAX + 1);
    let read = bounded.read_to_string(&mut text).await;
    let read = read.map_err(|error| failed(error.kind().to_string()))?;
    if FILE_BYTES_MAX < read as u64 || text.trim().is_empty() {
        return Err(failed("it holds no token".to_owned()));
    }
    Ok(secret(&text))
}

/// The code by which a refusal is known, as `invalid_client`, `AADSTS7000215` or `AccessDenied`. The words beside it may
/// hold anything.
fn code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let found = match serde_json::from_str::<Value>(text) {
        Ok(body) => {
            let number = body["error_codes"][0].as_u64();
            let name = body["error"].as_str();
            let name = name.or_else(|| body["error"]["status"].as_str());
            match (number, name) {
                (Some(number), _) => format!("AADSTS{number}"),
                (None, name) => name?.to_owned(),
            }
        }
        Err(_) => super::amazon::element(text, "Code")?,
    };
    let is_code = found.len() <= CODE_LENGTH_MAX
        && found
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    (is_code && !found.is_empty()).then_some(found)
}
