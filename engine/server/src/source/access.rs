//! Credentials of a source: sent to its own origin, never further.

use std::sync::Arc;

use jiff::Timestamp;
use protocol::secret::SecretString;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::bucket::sign::Signer;
use super::client::Client;
use super::error::FetchError;
use super::registry::login::Login;

/// How a source wants to be asked.
#[derive(Debug, Clone, Default)]
pub(super) enum Access {
    /// As anybody.
    #[default]
    Open,
    /// With a token.
    Bearer(SecretString),
    /// With a signature over each request.
    Signed(Arc<Signer>),
    /// With what a registry's challenge asks for.
    Registry(Arc<Login>),
}

impl Access {
    /// The headers of a request.
    pub(super) fn headers(&self, url: &Url, now: Timestamp) -> Result<HeaderMap, FetchError> {
        match self {
            Self::Open => Ok(HeaderMap::new()),
            Self::Bearer(token) => {
                let value = secret_value(&format!("Bearer {}", token.expose().trim()))?;
                Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
            }
            Self::Signed(signer) => signer.headers(url, now),
            Self::Registry(login) => Ok(login.headers()),
        }
    }

    /// Answers a challenge; says whether it is worth asking again.
    pub(super) async fn answer(
        &self,
        client: &Client,
        url: &Url,
        challenge: &HeaderMap,
    ) -> Result<bool, FetchError> {
        match self {
            Self::Open | Self::Bearer(_) | Self::Signed(_) => Ok(false),
            Self::Registry(login) => login.answer(client, url, challenge).await,
        }
    }

    /// A signature holds for one place only.
    pub(super) const fn follows_redirects(&self) -> bool {
        !matches!(self, Self::Signed(_))
    }
}

/// A header's value that is not printed.
pub(super) fn secret_value(text: &str) -> Result<HeaderValue, FetchError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        FetchError::Setup(
            "a credential for the source has characters that no header may have; correct it"
                .to_owned(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
