//! Service accounts of Google's: a key signs a claim, which is exchanged for an access token that serves for an hour.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::Uri;
use jiff::Timestamp;
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    NoToken, Unusable,
    asking::{address, encoded, unreachable},
    google::SCOPE,
};

/// What kind of claim is exchanged.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long a claim holds, in seconds.
const CLAIM_SECONDS: i64 = 3600;

/// A service account.
pub(super) struct ServiceAccount {
    email: String,
    key_id: String,
    key: RsaKeyPair,
    pub(super) token_url: Uri,
}

/// The part of a key file that is read.
#[derive(Deserialize)]
pub(super) struct KeyFile {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    token_uri: String,
}

impl ServiceAccount {
    /// The account of a key file.
    pub(super) fn new(file: KeyFile) -> Result<Self, Unusable> {
        let lines = file.private_key.lines().map(str::trim);
        let encoded: String = lines.filter(|line| !line.starts_with("-----")).collect();
        let key = STANDARD.decode(encoded).ok();
        let key = key.and_then(|key| RsaKeyPair::from_pkcs8(&key).ok());
        let unusable = || Unusable("the private key of its service account is none".to_owned());
        Ok(Self {
            email: file.client_email,
            key_id: file.private_key_id,
            key: key.ok_or_else(unusable)?,
            token_url: address(&file.token_uri)?,
        })
    }

    /// The form that is exchanged for a token.
    pub(super) fn form(&self) -> Result<Bytes, NoToken> {
        let claim = self.claim(Timestamp::now())?;
        Ok(encoded(&[("grant_type", GRANT), ("assertion", &claim)]))
    }

    /// The claim, signed.
    fn claim(&self, now: Timestamp) -> Result<String, NoToken> {
        let issued = now.as_second();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_url.to_string(),
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
            .map_err(|_| unreachable("the key signs nothing"))?;
        Ok(format!("{to_sign}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
