//! Identities: credentials that end soon, which the gateway fetches for providers in the place of keys that last.
//!
//! One fetch at a time serves all who wait for it, and it goes on when the one who began it goes away. What was fetched
//! serves until two minutes before its end.

mod amazon;
mod asking;
mod entra;
mod external_account;
mod google;
mod held;
mod own;
mod service_account;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak},
};

use http::HeaderValue;
use parking_lot::Mutex;
use protocol::{
    key::digest,
    provider::{Credential, Provider},
    secret::SecretString,
};
use thiserror::Error;

pub use self::own::IdentityArgs;
use self::{
    amazon::{Amazon, Assumed, Origin},
    entra::Entra,
    google::Google,
    held::Source,
};
pub(crate) use self::{held::Held, own::Own};
use crate::provider::Signer;

/// The SHA-256 of what an identity is made of.
type Digest = [u8; 32];

/// Why there is no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// The server refused, or nobody may be asked; in words without any secret.
    Refused(String),
    /// The server could not be asked, or its answer could not be read.
    Unreachable(String),
}

/// Why no credential will ever be fetched for a target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) String);

/// Whose credential is fetched: a target's, and what its provider and its namespace allow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The namespace of the route.
    pub(crate) namespace: &'a str,
    /// The provider.
    pub(crate) provider: &'a Provider,
    /// The base URLs that requests go to.
    pub(crate) endpoints: &'a [String],
    /// What lets the gateway in.
    pub(crate) credential: &'a Credential,
}

/// What shows the gateway at a provider.
#[derive(Debug, Clone)]
pub(crate) enum Shown {
    /// A token in the header `Authorization`.
    Token(Arc<Held<HeaderValue>>),
    /// Keys that sign each request.
    Keys(Arc<Held<Arc<Signer>>>),
}

/// The identities of all tables in use, so that a new table keeps what was fetched.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    own: OnceLock<Own>,
    tokens: Known<HeaderValue>,
    keys: Known<Arc<Signer>>,
}

#[derive(Debug)]
struct Known<T>(Mutex<HashMap<Digest, Weak<Held<T>>>>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl Identities {
    /// Says who the gateway itself is; once, before the first table.
    pub(crate) fn introduce(&self, own: Own) {
        // A second introduction has nobody that it could come from.
        let _ = self.own.set(own);
    }

    /// What shows the gateway with a target's credential; `None` if the credential is not one that is fetched for such a
    /// provider.
    ///
    /// # Errors
    /// [`Unusable`]: no request can be let in with it.
    pub(crate) fn shown(&self, asked: Asked<'_>) -> Option<Result<Shown, Unusable>> {
        let own = self.own.get_or_init(Own::default);
        let text = serde_json::to_string(&(asked.namespace, asked.provider, asked.credential));
        let digest = digest(&text.unwrap_or_default());
        let token = |source: Result<Box<dyn Source<HeaderValue>>, Unusable>| {
            Some(source.map(|source| Shown::Token(self.tokens.get(digest, source))))
        };
        let keys = |source: Result<Box<dyn Source<Arc<Signer>>>, Unusable>| {
            Some(source.map(|source| Shown::Keys(self.keys.get(digest, source))))
        };
        match (asked.credential, asked.provider) {
            (Credential::ServiceAccount { service_account }, Provider::VertexAI { .. }) => {
                token(Google::of_secret(service_account).map(boxed))
            }
            (Credential::Entra(application), Provider::AzureOpenAI { .. }) => {
                token(Entra::of_secret(application, own).map(boxed))
            }
            (
                Credential::Aws {
                    access_key_id,
                    secret_access_key,
                    session_token,
                    role: Some(role),
                },
                Provider::Bedrock { region },
            ) => {
                let keys_of = amazon::Keys {
                    id: access_key_id.clone(),
                    secret: secret_access_key.clone(),
                    token: session_token.clone(),
                };
                let role = Assumed::new(role, asked.namespace);
                let source = Amazon::new(region, Origin::Keys(keys_of), Some(role), own);
                keys(source.map(boxed))
            }
            (Credential::Workload { workload_identity }, provider) => {
                let workload = workload_identity;
                if let Err(unusable) = own.lends_to(asked.namespace) {
                    return Some(Err(unusable));
                }
                let may_go = own.may_reach(provider, asked.endpoints);
                match provider {
                    Provider::AzureOpenAI { .. } => token(
                        may_go
                            .and_then(|()| Entra::of_own(workload, own))
                            .map(boxed),
                    ),
                    Provider::VertexAI { .. } => {
                        token(may_go.map(|()| Google::of_own(workload, own)).map(boxed))
                    }
                    Provider::Bedrock { region } => {
                        let source = Amazon::of_own(region, workload, asked.namespace, own);
                        keys(source.map(boxed))
                    }
                    Provider::OpenAI
                    | Provider::Anthropic
                    | Provider::Gemini
                    | Provider::Ollama => None,
                }
            }
            _ => None,
        }
    }
}

fn boxed<T, S: Source<T> + 'static>(source: S) -> Box<dyn Source<T>> {
    Box::new(source)
}

impl<T: Clone + Send + Sync + 'static> Known<T> {
    /// What is held already, or else what this source will give.
    fn get(&self, digest: Digest, source: Box<dyn Source<T>>) -> Arc<Held<T>> {
        let mut known = self.0.lock();
        known.retain(|_, held| 0 < held.strong_count());
        if let Some(held) = known.get(&digest).and_then(Weak::upgrade) {
            return held;
        }
        let held = Arc::new(Held::new(source));
        known.insert(digest, Arc::downgrade(&held));
        held
    }
}

/// A secret that an environment or a file gave, without the line's end.
fn secret(text: &str) -> SecretString {
    SecretString::new(text.trim().to_owned())
}
