//! Service accounts of Google's: a key signs a claim, which is exchanged for an access token that serves for an hour.
//!
//! One exchange at a time serves all who wait for it, and it goes on when the one who began it goes away.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::{
    address::{host_of, is_forbidden_host},
    key::digest,
    secret::SecretString,
};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde::Deserialize;
use serde_json::json;

use crate::upstream::Upstream;

/// What a token may do.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What kind of claim is exchanged.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long a claim holds, in seconds.
const CLAIM_SECONDS: i64 = 3600;
/// How long before its end a token is exchanged for another, so that none ends on its way.
const REFRESH_BEFORE: Duration = Duration::from_secs(120);
/// How long an exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an exchange's answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// The server refused the account.
    Refused,
    /// The server could not be asked, or its answer could not be read.
    Unreachable(String),
}

#[derive(Debug, Clone)]
struct Token {
    value: HeaderValue,
    until: Instant,
}

type Exchange = Shared<BoxFuture<'static, Result<Token, NoToken>>>;

#[derive(Default)]
struct Tokens {
    current: Option<Token>,
    exchange: Option<Exchange>,
}

/// A service account.
pub(crate) struct ServiceAccount {
    email: String,
    key_id: String,
    key: RsaKeyPair,
    token_uri: Uri,
    tokens: Mutex<Tokens>,
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServiceAccount")
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

/// The accounts of all tables in use, so that a new table keeps their tokens.
#[derive(Debug, Default)]
pub(crate) struct ServiceAccounts {
    by_digest: Mutex<HashMap<[u8; 32], Weak<ServiceAccount>>>,
}

/// The part of a key file that is read.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    token_uri: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

impl ServiceAccounts {
    /// The account of a key file; `None` if the file is none, or names a server that nobody may ask.
    pub(crate) fn get(&self, file: &SecretString) -> Option<Arc<ServiceAccount>> {
        let digest = digest(file.expose());
        let mut by_digest = self.by_digest.lock();
        by_digest.retain(|_, account| 0 < account.strong_count());
        if let Some(known) = by_digest.get(&digest).and_then(Weak::upgrade) {
            return Some(known);
        }
        let account = Arc::new(ServiceAccount::parse(file.expose())?);
        by_digest.insert(digest, Arc::downgrade(&account));
        Some(account)
    }
}

impl ServiceAccount {
    fn parse(file: &str) -> Option<Self> {
        let file: KeyFile = serde_json::from_str(file).ok()?;
        if host_of(&file.token_uri).is_none_or(is_forbidden_host) {
            return None;
        }
        let lines = file.private_key.lines().map(str::trim);
        let encoded: String = lines.filter(|line| !line.starts_with("-----")).collect();
        let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(encoded).ok()?).ok()?;
        Some(Self {
            email: file.client_email,
            key_id: file.private_key_id,
            key,
            token_uri: file.token_uri.parse().ok()?,
            tokens: Mutex::default(),
        })
    }

    /// The value of the `Authorization` header.
    ///
    /// # Errors
    /// [`NoToken`]; the next call tries again.
    ///
    /// # Cancel safety
    /// An exchange that was begun goes on with the next caller.
    pub(crate) async fn authorization(
        self: &Arc<Self>,
        upstream: &Upstream,
    ) -> Result<HeaderValue, NoToken> {
        let exchange = {
            let mut tokens = self.tokens.lock();
            if let Some(token) = &tokens.current
                && Instant::now() + REFRESH_BEFORE < token.until
            {
                return Ok(token.value.clone());
            }
            let begin = || {
                exchange(Arc::downgrade(self), upstream.clone())
                    .boxed()
                    .shared()
            };
            tokens.exchange.get_or_insert_with(begin).clone()
        };
        exchange.await.map(|token| token.value)
    }

    /// Forgets a token that was refused.
    pub(crate) fn forget(&self) {
        self.tokens.lock().current = None;
    }

    /// The claim, signed.
    fn claim(&self, now: Timestamp) -> Result<String, NoToken> {
        let issued = now.as_second();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_uri.to_string(),
            "iat": issued, "exp": issued + CLAIM_SECONDS,
        });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let to_sign = format!("{header}.{claims}");
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                to_sign.as_bytes(),
                &mut signature,
            )
            .map_err(|_| NoToken::Unreachable("the key signs nothing".to_owned()))?;
        Ok(format!("{to_sign}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    async fn ask(&self, upstream: &Upstream) -> Result<Token, NoToken> {
        let unreachable = |reason: &str| NoToken::Unreachable(reason.to_owned());
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT)
            .append_pair("assertion", &self.claim(Timestamp::now())?)
            .finish();
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.token_uri.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| unreachable("the token server's address makes no request"))?;
        let asked = Instant::now();
        let response = upstream
            .request(request)
            .await
            .map_err(|_| unreachable("the token server cannot be reached"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body
            .await
            .map_err(|_| unreachable("the token server's answer broke"))?;
        if status.is_client_error() && status.as_u16() != 429 {
            return Err(NoToken::Refused);
        }
        if !status.is_success() {
            let message = format!("the token server answered with status {status}");
            return Err(NoToken::Unreachable(message));
        }
        let granted: Granted = serde_json::from_slice(&body.to_bytes())
            .map_err(|_| unreachable("the token server's answer holds no token"))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", granted.access_token))
            .map_err(|_| unreachable("the token cannot be sent"))?;
        value.set_sensitive(true);
        Ok(Token {
            value,
            until: asked + Duration::from_secs(granted.expires_in),
        })
    }
}

/// Exchanges a claim for a token, and keeps the token.
async fn exchange(account: Weak<ServiceAccount>, upstream: Upstream) -> Result<Token, NoToken> {
    let Some(account) = account.upgrade() else {
        return Err(NoToken::Unreachable("the account is gone".to_owned()));
    };
    let asked = tokio::time::timeout(EXCHANGE_TIMEOUT, account.ask(&upstream)).await;
    let late = || NoToken::Unreachable(format!("no token within {EXCHANGE_TIMEOUT:?}"));
    let outcome = asked.unwrap_or_else(|_| Err(late()));
    let mut tokens = account.tokens.lock();
    tokens.exchange = None;
    if let Ok(token) = &outcome {
        tokens.current = Some(token.clone());
    }
    outcome
}
