//! How the gateway shows itself to tool servers and agents: a header, or a token that it fetches and keeps.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use parking_lot::Mutex;
use protocol::{
    address::{host_of, is_forbidden_host},
    secret::SecretString,
    snapshot::{ClientCredentials, UpstreamAuth},
};
use serde::Deserialize;
use thiserror::Error;
use url::form_urlencoded;

use crate::{
    provider::InvalidProvider,
    table::{InvalidSnapshot, is_http},
    upstream::Upstream,
};

/// How long a token endpoint may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a token endpoint's answer.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// How long a token is used whose end is not given.
const LIFETIME_GUESSED: Duration = Duration::from_secs(300);
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(30);
/// Tokens that are kept.
const TOKENS_MAX: usize = 1024;

/// How the gateway shows itself.
#[derive(Debug)]
pub(crate) enum Auth {
    /// Not at all.
    None,
    /// By a header.
    Header(HeaderName, HeaderValue),
    /// By a token that it fetches.
    ClientCredentials(Box<ClientCredentials>),
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    /// The token endpoint could not be reached.
    #[error("the token endpoint could not be reached")]
    Unreachable,
    /// The token endpoint took too long.
    #[error("the token endpoint did not answer within {TOKEN_TIMEOUT:?}")]
    Timeout,
    /// The token endpoint refused.
    #[error("the token endpoint answered with status {0}")]
    Refused(u16),
    /// The answer holds no bearer token.
    #[error("the token endpoint's answer holds no bearer token")]
    Garbage,
}

/// The tokens that were fetched.
#[derive(Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// At most one token; whoever finds none fetches it while the others wait.
#[derive(Default)]
struct Slot {
    token: tokio::sync::Mutex<Option<Token>>,
}

struct Token {
    authorization: HeaderValue,
    ends: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    token_type: String,
    expires_in: Option<u64>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Auth {
    /// Compiles how the gateway shows itself.
    ///
    /// # Errors
    /// A header that cannot be sent, or a token endpoint that is not an http or https URL.
    pub(crate) fn compile(
        route: &str,
        name: &str,
        auth: &UpstreamAuth,
    ) -> Result<Self, InvalidSnapshot> {
        Ok(match auth {
            UpstreamAuth::None => Self::None,
            UpstreamAuth::Header(header) => {
                let invalid = || InvalidSnapshot::Provider {
                    route: route.to_owned(),
                    target: name.to_owned(),
                    source: InvalidProvider::Credential,
                };
                let header_name =
                    HeaderName::try_from(header.name.as_str()).map_err(|_| invalid())?;
                let value = HeaderValue::from_str(header.value.expose());
                let mut value = value.map_err(|_| invalid())?;
                value.set_sensitive(true);
                Self::Header(header_name, value)
            }
            UpstreamAuth::ClientCredentials(credentials) => {
                uri(route, name, &credentials.token_url)?;
                Self::ClientCredentials(Box::new(credentials.clone()))
            }
        })
    }

    /// Whether another token may do better after a refusal.
    pub(crate) const fn is_fetched(&self) -> bool {
        matches!(self, Self::ClientCredentials(_))
    }
}

/// A URL that requests can be sent to.
///
/// # Errors
/// [`InvalidSnapshot`]: the URL is none, or no request may go there.
pub(crate) fn uri(route: &str, name: &str, url: &str) -> Result<Uri, InvalidSnapshot> {
    let invalid = || InvalidSnapshot::Url {
        route: route.to_owned(),
        target: name.to_owned(),
        url: url.to_owned(),
    };
    if !is_http(url) {
        return Err(invalid());
    }
    if host_of(url).is_none_or(is_forbidden_host) {
        return Err(InvalidSnapshot::Forbidden {
            route: route.to_owned(),
            target: name.to_owned(),
            url: url.to_owned(),
        });
    }
    url.parse().map_err(|_| invalid())
}

impl Tokens {
    /// Puts what shows the gateway into a request's headers.
    ///
    /// # Errors
    /// [`TokenError`]: a token is needed and cannot be had.
    pub(crate) async fn show(
        &self,
        client: &Upstream,
        auth: &Auth,
        headers: &mut HeaderMap,
    ) -> Result<(), TokenError> {
        match auth {
            Auth::None => {}
            Auth::Header(name, value) => {
                headers.insert(name, value.clone());
            }
            Auth::ClientCredentials(credentials) => {
                let value = self.token(client, credentials).await?;
                headers.insert(header::AUTHORIZATION, value);
            }
        }
        Ok(())
    }

    /// Drops a token that was refused.
    pub(crate) fn forget(&self, auth: &Auth) {
        if let Auth::ClientCredentials(credentials) = auth {
            self.slots.lock().remove(&key(credentials));
        }
    }

    async fn token(
        &self,
        client: &Upstream,
        credentials: &ClientCredentials,
    ) -> Result<HeaderValue, TokenError> {
        let slot = self.slot(credentials);
        let mut held = slot.token.lock().await;
        if let Some(token) = held.as_ref()
            && Instant::now() < token.ends
        {
            return Ok(token.authorization.clone());
        }
        let fetching = fetch(client, credentials);
        let token = tokio::time::timeout(TOKEN_TIMEOUT, fetching)
            .await
            .map_err(|_| TokenError::Timeout)??;
        let authorization = token.authorization.clone();
        *held = Some(token);
        Ok(authorization)
    }

    fn slot(&self, credentials: &ClientCredentials) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        let key = key(credentials);
        if TOKENS_MAX <= slots.len() && !slots.contains_key(&key) {
            // Those that nobody waits for now are fetched again when they are needed.
            slots.retain(|_, slot| 1 < Arc::strong_count(slot));
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

fn key(credentials: &ClientCredentials) -> String {
    let ClientCredentials {
        token_url,
        client_id,
        client_secret,
        scope,
    } = credentials;
    [token_url, client_id, client_secret.expose(), scope].join("\n")
}

async fn fetch(client: &Upstream, credentials: &ClientCredentials) -> Result<Token, TokenError> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = [
        encode(&credentials.client_id),
        encode(credentials.client_secret.expose()),
    ];
    let basic = format!("Basic {}", BASE64_STANDARD.encode(pair.join(":")));
    let request = Request::post(&credentials.token_url)
        .header(header::AUTHORIZATION, basic)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form(credentials))))
        .map_err(|_| TokenError::Unreachable)?;
    let response = client.request(request).await;
    let response = response.map_err(|_| TokenError::Unreachable)?;
    if !response.status().is_success() {
        return Err(TokenError::Refused(response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), TOKEN_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| TokenError::Garbage)?;
    let granted: Granted =
        serde_json::from_slice(&body.to_bytes()).map_err(|_| TokenError::Garbage)?;
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Garbage);
    }
    let authorization = format!("Bearer {}", granted.access_token.expose());
    let mut authorization =
        HeaderValue::from_str(&authorization).map_err(|_| TokenError::Garbage)?;
    authorization.set_sensitive(true);
    let lifetime = granted
        .expires_in
        .map_or(LIFETIME_GUESSED, Duration::from_secs);
    // A year is for ever, and no clock overflows.
    let lifetime = lifetime.min(Duration::from_secs(365 * 24 * 3600));
    Ok(Token {
        authorization,
        ends: Instant::now() + lifetime.saturating_sub(MARGIN),
    })
}

fn form(credentials: &ClientCredentials) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !credentials.scope.is_empty() {
        form.append_pair("scope", &credentials.scope);
    }
    form.finish()
}
