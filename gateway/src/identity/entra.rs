//! Microsoft Entra ID: an application shows its secret, or a token that Kubernetes gave the gateway's Pod, for an access
//! token of Azure's.

use std::path::PathBuf;

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Uri};
use protocol::{
    provider::{Application, Workload},
    secret::SecretString,
};

use super::{
    NoToken, Unusable,
    asking::{Granted, address, ask, encoded, file, form, read},
    held::{Fresh, Source},
    own::Own,
};
use crate::{provider::segment, upstream::Upstream};

/// What proves who the application is, in the place of its secret.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An application of a tenant.
pub(super) struct Entra {
    token_url: Uri,
    client_id: String,
    scope: &'static str,
    proof: Proof,
}

/// What an application shows.
enum Proof {
    Secret(SecretString),
    /// A token that is in this file; Kubernetes writes a new one before it ends.
    File(PathBuf),
}

impl Entra {
    /// The application of a Secret.
    pub(super) fn of_secret(application: &Application, own: &Own) -> Result<Self, Unusable> {
        let authority = application.authority.as_deref();
        let proof = Proof::Secret(application.client_secret.clone());
        let of = (&*application.tenant_id, &*application.client_id);
        Self::new(authority.unwrap_or(&own.azure.authority), of, proof)
    }

    /// The application that trusts the gateway's Pod.
    pub(super) fn of_own(workload: &Workload, own: &Own) -> Result<Self, Unusable> {
        let missing = |what: &str| {
            Unusable(format!(
                "the gateway has no {what} of Azure's; see --azure-{what}"
            ))
        };
        let azure = &own.azure;
        let tenant = workload.tenant_id.as_ref().or(azure.tenant.as_ref());
        let client = workload.client_id.as_ref().or(azure.client.as_ref());
        let tenant = tenant.ok_or_else(|| missing("tenant-id"))?;
        let client = client.ok_or_else(|| missing("client-id"))?;
        let token_file = azure.token_file.clone();
        let token_file = token_file.ok_or_else(|| missing("federated-token-file"))?;
        let proof = Proof::File(token_file);
        Self::new(&azure.authority, (tenant, client), proof)
    }

    fn new(
        authority: &str,
        (tenant, client): (&str, &str),
        proof: Proof,
    ) -> Result<Self, Unusable> {
        let authority = authority.trim_end_matches('/');
        let url = format!("{authority}/{}/oauth2/v2.0/token", segment(tenant));
        Ok(Self {
            token_url: address(&url)?,
            client_id: client.to_owned(),
            scope: scope(authority),
            proof,
        })
    }

    async fn grant(&self, upstream: &Upstream) -> Result<Fresh<HeaderValue>, NoToken> {
        let mut pairs = vec![
            ("grant_type", "client_credentials"),
            ("client_id", &*self.client_id),
            ("scope", self.scope),
        ];
        let token;
        match &self.proof {
            Proof::Secret(secret) => pairs.push(("client_secret", secret.expose())),
            Proof::File(path) => {
                token = file(path).await?;
                pairs.push(("client_assertion_type", ASSERTION));
                pairs.push(("client_assertion", token.expose()));
            }
        }
        let request = form(&self.token_url, encoded(&pairs))?;
        let body = ask(upstream, request).await?;
        read::<Granted>(&body)?.shown()
    }
}

impl Source<HeaderValue> for Entra {
    fn fetch<'a>(
        &'a self,
        upstream: &'a Upstream,
    ) -> BoxFuture<'a, Result<Fresh<HeaderValue>, NoToken>> {
        self.grant(upstream).boxed()
    }
}

/// What tokens are for, in the cloud that an authority belongs to.
fn scope(authority: &str) -> &'static str {
    if authority.ends_with(".us") {
        "https://cognitiveservices.azure.us/.default"
    } else if authority.ends_with(".cn") {
        "https://cognitiveservices.azure.cn/.default"
    } else {
        "https://cognitiveservices.azure.com/.default"
    }
}
