//! Tokens of an identity provider (JWT, OpenID Connect) in the place of keys: RS256 and ES256, checked against the keys
//! that the issuer publishes.
//!
//! Keys are fetched at the start, every ten minutes, and when a token names one that is not known, but not more often
//! than twice a minute: nobody can make the gateway ask the issuer by inventing names.

mod issuers;
mod keys;
mod token;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use protocol::{
    allowance::Allowance,
    snapshot::{TokenIssuer, content_hash},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::{
    issuers::{Registry, Trust, follow, holder, issuers, refresh_for},
    token::{Expected, Rejected, is_token},
};
use self::{
    keys::KeySet,
    token::{Claims, aim, check},
};
use crate::{
    people::{Key, Said, Terms, check_id},
    table::Lasting,
    upstream::{self, Upstream},
};

/// Between two fetches at least.
const FLOOR: Duration = Duration::from_secs(30);
/// Between two fetches that nobody asks for.
const REFRESH: Duration = Duration::from_secs(600);
/// How long the issuer may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an issuer's answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Tokens whose check is remembered.
const TOKENS_MAX: usize = 4096;

/// The SHA-256 of a token.
type Digest = [u8; 32];

/// Whose tokens are taken, and what their claims mean.
#[derive(Debug, Clone, clap::Args)]
pub struct JwtArgs {
    /// Take tokens of this OpenID Connect issuer besides keys, as https://login.example
    #[arg(long, value_name = "URL", requires = "jwt_audience")]
    pub jwt_issuer: Option<String>,
    /// Whom tokens must be for
    #[arg(long, value_name = "NAME", requires = "jwt_issuer")]
    pub jwt_audience: Option<String>,
    /// Where the issuer publishes its keys; as its openid-configuration says if not given
    #[arg(long, value_name = "URL", requires = "jwt_issuer")]
    pub jwt_keys_url: Option<Uri>,
    /// Claim with the user
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub jwt_user_claim: String,
    /// Claim with the team, a text or a list of which the first counts
    #[arg(long, value_name = "CLAIM", default_value = "team")]
    pub jwt_team_claim: String,
}

/// An issuer whose tokens are taken.
#[derive(Debug)]
pub(crate) struct Issuer {
    expected: Arc<Expected>,
    /// Whether its tokens open every route that a key opens, as those do of the gateway's own issuer.
    is_trusted_everywhere: bool,
    keys_url: Option<Uri>,
    user_claim: String,
    team_claim: String,
    client: Upstream,
    keys: RwLock<Arc<KeySet>>,
    fetched: tokio::sync::Mutex<Option<Instant>>,
    /// Checked tokens, until they end.
    known: Mutex<HashMap<Digest, (Timestamp, Arc<Key>)>>,
}

/// Who has signed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The issuer, and for whom.
    by: Arc<Expected>,
    /// Whether it opens every route that a key opens.
    pub(crate) is_trusted_everywhere: bool,
}

#[derive(Deserialize)]
struct Discovery {
    jwks_uri: String,
}

impl Issuer {
    /// The issuer that was named, if one was.
    pub(crate) fn of(args: JwtArgs) -> Option<Self> {
        let JwtArgs {
            jwt_issuer,
            jwt_audience,
            jwt_keys_url,
            jwt_user_claim,
            jwt_team_claim,
        } = args;
        Some(Self {
            is_trusted_everywhere: true,
            ..Self::new(
                Expected {
                    issuer: jwt_issuer?,
                    audience: jwt_audience?,
                },
                jwt_keys_url,
                (jwt_user_claim, jwt_team_claim),
            )
        })
    }

    /// One that a route trusts; its tokens open only routes that say so.
    ///
    /// # Errors
    /// The URL of its keys is none, in words.
    fn of_route(settings: &TokenIssuer) -> Result<Self, String> {
        let parse = |url: &String| url.parse().map_err(|_| format!("`{url}` is no URL"));
        Ok(Self::new(
            Expected {
                issuer: settings.issuer.clone(),
                audience: settings.audience.clone(),
            },
            settings.keys_url.as_ref().map(parse).transpose()?,
            (settings.user_claim.clone(), settings.team_claim.clone()),
        ))
    }

    fn new(expected: Expected, keys_url: Option<Uri>, claims: (String, String)) -> Self {
        let (user_claim, team_claim) = claims;
        Self {
            expected: Arc::new(expected),
            is_trusted_everywhere: false,
            keys_url,
            user_claim,
            team_claim,
            client: upstream::client(),
            keys: RwLock::default(),
            fetched: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Whether a token says that it comes from here and is for us; nothing of it is checked.
    fn is_meant_by(&self, token: &str) -> bool {
        aim(token).is_some_and(|aim| aim.fits(&self.expected))
    }

    /// The holder of a token, as a key that lives as long as the token.
    ///
    /// # Errors
    /// [`Rejected`]
    pub(crate) fn holder(
        &self,
        token: &str,
        digest: Digest,
        lasting: &Lasting,
        now: Timestamp,
    ) -> Result<Arc<Key>, Rejected> {
        if let Some(key) = self.remembered(digest, now) {
            return Ok(key);
        }
        let keys = Arc::clone(&self.keys.read());
        let claims = check(token, &keys, &self.expected, now)?;
        let expires = claims.expires;
        let key = Arc::new(self.key(&claims, lasting)?);
        let mut known = self.known.lock();
        if TOKENS_MAX <= known.len() {
            known.retain(|_, (expires, _)| now < *expires);
        }
        if TOKENS_MAX <= known.len() {
            known.clear();
        }
        known.insert(digest, (expires, Arc::clone(&key)));
        Ok(key)
    }

    /// The holder of a token that was checked before.
    fn remembered(&self, digest: Digest, now: Timestamp) -> Option<Arc<Key>> {
        let known = self.known.lock();
        let (expires, key) = known.get(&digest)?;
        (now < *expires).then(|| Arc::clone(key))
    }

    fn key(&self, claims: &Claims, lasting: &Lasting) -> Result<Key, Rejected> {
        let user = text(&claims.all, &self.user_claim).ok_or(Rejected::Invalid)?;
        let team = text(&claims.all, &self.team_claim);
        for id in [Some(user), team].into_iter().flatten() {
            check_id("claim", id).map_err(|_| Rejected::Invalid)?;
        }
        // Users of different issuers are different people, whatever they call themselves.
        let id = match self.is_trusted_everywhere {
            true => format!("jwt:{user}"),
            false => format!("jwt:{}:{user}", content_hash(&*self.expected)),
        };
        let said = Said {
            id: &id,
            team,
            user: Some(user),
            tags: &[],
            routes: &[],
            allowance: &Allowance::default(),
            is_blocked: false,
        };
        let terms = Terms::compile(said, &lasting.parties, &lasting.meters);
        let terms = Box::new(terms.map_err(|_| Rejected::Invalid)?);
        Ok(Key {
            id,
            expires: Some(claims.expires),
            terms: Some(terms),
            signed: Some(Box::new(Signed {
                by: Arc::clone(&self.expected),
                is_trusted_everywhere: self.is_trusted_everywhere,
            })),
        })
    }

    /// Fetches the keys until shutdown.
    pub(crate) async fn follow(&self, shutdown: CancellationToken) {
        loop {
            self.refresh().await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(REFRESH) => {}
            }
        }
    }

    /// Fetches the keys if that is due.
    async fn keep_fresh(&self) {
        let is_fresh = |fetched: Instant| fetched.elapsed() < REFRESH;
        // Held by somebody else, it is being fetched.
        let is_due = match self.fetched.try_lock() {
            Ok(fetched) => !fetched.is_some_and(is_fresh),
            Err(_) => false,
        };
        if is_due {
            self.refresh().await;
        }
    }

    /// Fetches the keys, unless that was done a moment ago; without an answer those that are known stay.
    pub(crate) async fn refresh(&self) {
        let mut fetched = self.fetched.lock().await;
        if fetched.is_some_and(|fetched| fetched.elapsed() < FLOOR) {
            return;
        }
        *fetched = Some(Instant::now());
        match tokio::time::timeout(FETCH_TIMEOUT, self.fetch()).await {
            Ok(Ok(keys)) => {
                info!(issuer = self.expected.issuer, "keys of the issuer fetched");
                *self.keys.write() = Arc::new(keys);
                // Tokens of a key that was taken back end with it.
                self.known.lock().clear();
            }
            Ok(Err(error)) => {
                warn!(issuer = self.expected.issuer, %error, "keys of the issuer cannot be fetched");
            }
            Err(_) => warn!(
                issuer = self.expected.issuer,
                "the issuer did not answer in time"
            ),
        }
    }

    async fn fetch(&self) -> Result<KeySet, Box<dyn std::error::Error + Send + Sync>> {
        let url = match &self.keys_url {
            Some(url) => url.clone(),
            None => {
                let issuer = self.expected.issuer.trim_end_matches('/');
                let url = format!("{issuer}/.well-known/openid-configuration").parse()?;
                let discovery: Discovery = serde_json::from_slice(&self.get(url).await?)?;
                discovery.jwks_uri.parse()?
            }
        };
        Ok(KeySet::parse(&self.get(url).await?)?)
    }

    async fn get(&self, url: Uri) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let request = Request::get(url).header(header::ACCEPT, "application/json");
        let response = self.client.request(request.body(Full::default())?).await?;
        if !response.status().is_success() {
            return Err(format!("it answered with status {}", response.status()).into());
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        Ok(body.collect().await?.to_bytes())
    }
}

/// A claim that is a text, or the first of a list.
fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let claim = match claims.get(name)? {
        Value::Array(list) => list.first()?,
        claim => claim,
    };
    claim.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
