//! External accounts of Google's: a token that somebody else gave the gateway's Pod is exchanged for one of Google's.

use std::path::PathBuf;

use bytes::Bytes;
use http::Uri;
use protocol::secret::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::{
    NoToken, Unusable,
    asking::{address, encoded, file, unreachable},
    google::SCOPE,
};

/// What is exchanged.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// What it is exchanged for.
const WANTED: &str = "urn:ietf:params:oauth:token-type:access_token";

/// An external account.
pub(super) struct ExternalAccount {
    audience: String,
    subject_token_type: String,
    subject: Subject,
    pub(super) token_url: Uri,
    pub(super) impersonation: Option<Uri>,
}

/// The part of a credential file that is read.
#[derive(Deserialize)]
pub(super) struct AccountFile {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: Value,
}

/// Where the other's token is.
#[derive(Deserialize)]
struct Subject {
    file: PathBuf,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    #[serde(rename = "type", default)]
    kind: FormatKind,
    #[serde(default)]
    subject_token_field_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatKind {
    #[default]
    Text,
    Json,
}

impl ExternalAccount {
    /// The account of a credential file of the gateway's own.
    pub(super) fn new(account: AccountFile) -> Result<Self, Unusable> {
        let subject = serde_json::from_value(account.credential_source);
        let subject = subject.map_err(|_| {
            let message = "the other's token of its external account is in no file, and no other source is known";
            Unusable(message.to_owned())
        })?;
        let impersonation = account.service_account_impersonation_url.as_deref();
        Ok(Self {
            audience: account.audience,
            subject_token_type: account.subject_token_type,
            subject,
            token_url: address(&account.token_url)?,
            impersonation: impersonation.map(address).transpose()?,
        })
    }

    /// The form that is exchanged for a token.
    pub(super) async fn form(&self) -> Result<Bytes, NoToken> {
        let token = self.subject().await?;
        Ok(encoded(&[
            ("grant_type", GRANT),
            ("audience", &self.audience),
            ("scope", SCOPE),
            ("requested_token_type", WANTED),
            ("subject_token_type", &self.subject_token_type),
            ("subject_token", token.expose()),
        ]))
    }

    async fn subject(&self) -> Result<SecretString, NoToken> {
        let Subject { file: path, format } = &self.subject;
        let text = file(path).await?;
        match format.kind {
            FormatKind::Text => Ok(text),
            FormatKind::Json => {
                let name = &format.subject_token_field_name;
                let fields: Option<Value> = serde_json::from_str(text.expose()).ok();
                let token = fields.as_ref().and_then(|fields| fields[name].as_str());
                let token = token.map(|token| SecretString::new(token.to_owned()));
                token.ok_or_else(|| unreachable("the file of the other's token lacks its field"))
            }
        }
    }
}
