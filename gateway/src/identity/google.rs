//! Access tokens of Google's: for the key file of a service account, for a person who agreed, for an external account,
//! or for what the machine is, of which its metadata service knows.

use std::path::PathBuf;

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use protocol::{provider::Workload, secret::SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    NoToken, Unusable,
    asking::{Granted, address, ask, bearer, encoded, file, form, read, unreachable, until},
    external_account::{AccountFile, ExternalAccount},
    held::{Fresh, Source},
    own::Own,
    service_account::{KeyFile, ServiceAccount},
};
use crate::{provider::segment, upstream::Upstream};

/// What a token may do.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where tokens are exchanged where a file of a person's does not say.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// The path of a token at a metadata service.
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token?scopes=https://www.googleapis.com/auth/cloud-platform";
/// The header without which metadata services answer nobody.
const METADATA_FLAVOR: (&str, &str) = ("metadata-flavor", "Google");

/// What tokens are given for, and the service account that is spoken for with them, if it is another.
pub(super) struct Google {
    origin: Origin,
    account: Option<Uri>,
}

enum Origin {
    File(Box<File>),
    /// The gateway's own file, which is read anew each time.
    Path(PathBuf),
    /// The metadata service at this address.
    Metadata(String),
}

/// A credential file.
enum File {
    Account(ServiceAccount),
    Person(Person),
    External(ExternalAccount),
}

/// A person who agreed that somebody speaks for them.
struct Person {
    token_url: Uri,
    client_id: String,
    client_secret: SecretString,
    refresh_token: SecretString,
}

#[derive(Deserialize)]
struct PersonFile {
    client_id: String,
    client_secret: SecretString,
    refresh_token: SecretString,
    token_uri: Option<String>,
}

/// A token for another account.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spoken {
    access_token: SecretString,
    expire_time: String,
}

impl Google {
    /// The account, or the person, of a file in a Secret.
    pub(super) fn of_secret(text: &SecretString) -> Result<Self, Unusable> {
        let file = File::parse(text.expose())?;
        if matches!(file, File::External(_)) {
            // The file would name a file of the gateway's, and whom to show what is in it.
            let message = "an external account is the gateway's own; use workloadIdentity for it";
            return Err(Unusable(message.to_owned()));
        }
        Ok(Self {
            origin: Origin::File(Box::new(file)),
            account: None,
        })
    }

    /// What the gateway itself is at Google.
    pub(super) fn of_own(workload: &Workload, own: &Own) -> Self {
        let google = &own.google;
        let account = workload.service_account.as_deref();
        let account = account.and_then(|email| {
            let (base, email) = (&google.accounts, segment(email));
            let path = format!("{base}/v1/projects/-/serviceAccounts/{email}:generateAccessToken");
            path.parse().ok()
        });
        let origin = match &google.file {
            Some(path) => Origin::Path(path.clone()),
            None => Origin::Metadata(format!("{}{METADATA_PATH}", google.metadata)),
        };
        Self { origin, account }
    }

    async fn token(&self, upstream: &Upstream) -> Result<Fresh<HeaderValue>, NoToken> {
        let read;
        let (first, other) = match &self.origin {
            Origin::File(file) => (file.grant(upstream).await?, None),
            Origin::Path(path) => {
                let text = file(path).await?;
                read = File::parse(text.expose())
                    .map_err(|unusable| NoToken::Refused(unusable.to_string()))?;
                (read.grant(upstream).await?, read.impersonation())
            }
            Origin::Metadata(url) => (from_metadata(upstream, url).await?, None),
        };
        match self.account.as_ref().or(other) {
            None => first.shown(),
            Some(account) => speak_for(upstream, account, &first).await,
        }
    }
}

impl Source<HeaderValue> for Google {
    fn fetch<'a>(
        &'a self,
        upstream: &'a Upstream,
    ) -> BoxFuture<'a, Result<Fresh<HeaderValue>, NoToken>> {
        self.token(upstream).boxed()
    }
}

impl File {
    fn parse(text: &str) -> Result<Self, Unusable> {
        let unusable = || Unusable("its credential is no credential file of Google's".to_owned());
        let fields: Value = serde_json::from_str(text).map_err(|_| unusable())?;
        let kind = fields["type"].as_str().unwrap_or("service_account");
        match kind {
            "service_account" => {
                let file: KeyFile = serde_json::from_value(fields).map_err(|_| unusable())?;
                ServiceAccount::new(file).map(Self::Account)
            }
            "authorized_user" => {
                let file: PersonFile = serde_json::from_value(fields).map_err(|_| unusable())?;
                Ok(Self::Person(Person {
                    token_url: address(file.token_uri.as_deref().unwrap_or(TOKEN_URL))?,
                    client_id: file.client_id,
                    client_secret: file.client_secret,
                    refresh_token: file.refresh_token,
                }))
            }
            "external_account" => {
                let file: AccountFile = serde_json::from_value(fields).map_err(|_| unusable())?;
                ExternalAccount::new(file).map(Self::External)
            }
            _ => Err(unusable()),
        }
    }

    const fn impersonation(&self) -> Option<&Uri> {
        match self {
            Self::External(account) => account.impersonation.as_ref(),
            Self::Account(_) | Self::Person(_) => None,
        }
    }

    async fn grant(&self, upstream: &Upstream) -> Result<Granted, NoToken> {
        let (url, body) = match self {
            Self::Account(account) => (&account.token_url, account.form()?),
            Self::Person(person) => (&person.token_url, person.form()),
            Self::External(account) => (&account.token_url, account.form().await?),
        };
        let body = ask(upstream, form(url, body)?).await?;
        read(&body)
    }
}

impl Person {
    fn form(&self) -> Bytes {
        encoded(&[
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose()),
            ("refresh_token", self.refresh_token.expose()),
        ])
    }
}

/// The token of the machine's own account.
async fn from_metadata(upstream: &Upstream, url: &str) -> Result<Granted, NoToken> {
    let (name, value) = METADATA_FLAVOR;
    let request = Request::get(url)
        .header(name, value)
        .body(Full::new(Bytes::new()))
        .map_err(|_| unreachable("the metadata service's address makes no request"))?;
    read(&ask(upstream, request).await?)
}

/// A token for another account, which this one may speak for.
async fn speak_for(
    upstream: &Upstream,
    account: &Uri,
    first: &Granted,
) -> Result<Fresh<HeaderValue>, NoToken> {
    let body = json!({"scope": [SCOPE], "lifetime": "3600s"}).to_string();
    let request = Request::builder()
        .method(Method::POST)
        .uri(account.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, bearer(first.access_token.expose())?)
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| unreachable("the account's address makes no request"))?;
    let body = ask(upstream, request).await?;
    let spoken: Spoken = read(&body)?;
    Ok(Fresh {
        value: bearer(spoken.access_token.expose())?,
        lasts: until(&spoken.expire_time)?,
    })
}
