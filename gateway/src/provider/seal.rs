//! Seals: what lets the gateway in and is made for each request, a signature or a token that ends.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, header::AUTHORIZATION};
use jiff::Timestamp;
use protocol::{
    provider::{Credential, Provider},
    snapshot::Target,
};

use super::{InvalidProvider, bedrock, sigv4::Signer};
use crate::{
    identity::{Asked, Held, Identities, NoToken, Shown, Unusable},
    upstream::Upstream,
};

/// What lets the gateway in and is made for each request.
#[derive(Debug)]
pub(super) enum Seal {
    /// Nothing: headers that stay the same do.
    None,
    /// A signature with keys of Amazon's that last.
    Keys(Arc<Signer>),
    /// A signature with keys of Amazon's that end.
    Ending(Arc<Held<Arc<Signer>>>),
    /// An access token.
    Token(Arc<Held<HeaderValue>>),
    /// Nothing will; one target's credential is no reason to refuse a whole snapshot.
    Broken(Unusable),
}

impl Seal {
    /// The seal that a credential of a target makes, unless it is a token, which is a header.
    ///
    /// # Errors
    /// The provider takes no such credential, or keys that no header can carry.
    pub(super) fn of(
        namespace: &str,
        target: &Target,
        credential: &Credential,
        identities: &Identities,
    ) -> Result<Self, InvalidProvider> {
        if let (
            Credential::Aws {
                access_key_id,
                secret_access_key,
                session_token,
                role: None,
            },
            Provider::Bedrock { region },
        ) = (credential, &target.provider)
        {
            let keys = (access_key_id, secret_access_key);
            let signer = Signer::new(keys, session_token.as_ref(), region, bedrock::SERVICE);
            let signer = signer.ok_or(InvalidProvider::Credential)?;
            return Ok(Self::Keys(Arc::new(signer)));
        }
        let shown = identities.shown(Asked {
            namespace,
            provider: &target.provider,
            endpoints: &target.endpoints,
            credential,
        });
        Ok(match shown.ok_or(InvalidProvider::CredentialKind)? {
            Ok(Shown::Token(token)) => Self::Token(token),
            Ok(Shown::Keys(keys)) => Self::Ending(keys),
            Err(unusable) => Self::Broken(unusable),
        })
    }

    /// Puts itself on a request.
    ///
    /// # Errors
    /// [`NoToken`] if what ends cannot be had.
    pub(super) async fn put<B>(
        &self,
        request: &mut Request<B>,
        body: &Bytes,
        upstream: &Upstream,
    ) -> Result<(), NoToken> {
        match self {
            Self::None => {}
            Self::Keys(signer) => sign(signer, request, body),
            Self::Ending(keys) => sign(&*keys.get(upstream).await?, request, body),
            Self::Token(token) => {
                let value = token.get(upstream).await?;
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            Self::Broken(unusable) => return Err(NoToken::Refused(unusable.to_string())),
        }
        Ok(())
    }

    /// Forgets what was refused, if there may be another.
    pub(super) fn forget(&self) {
        match self {
            Self::None | Self::Keys(_) | Self::Broken(_) => {}
            Self::Ending(keys) => keys.forget(),
            Self::Token(token) => token.forget(),
        }
    }
}

fn sign<B>(signer: &Signer, request: &mut Request<B>, body: &Bytes) {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let headers = request.headers_mut();
    signer.sign((&method, &uri), headers, body, Timestamp::now());
}
