//! Service account tokens: JSON web tokens signed with ES256 and bound to the objects that they name.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Who signs, and the audience of a token that names none.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A name and a uid.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) uid: String,
}

/// The claim that only Kubernetes has.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct KubernetesClaim {
    pub(crate) namespace: String,
    pub(crate) serviceaccount: Bound,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Bound>,
}

/// What a token says; times are seconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: KubernetesClaim,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// Signs and verifies tokens.
pub(crate) struct TokenSigner {
    key: EcdsaKeyPair,
    public: UnparsedPublicKey<Vec<u8>>,
    key_id: String,
    random: SystemRandom,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TokenSigner")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// From the PKCS#8 document of a P-256 key; nothing when it is another thing.
    pub(crate) fn new(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).ok()?;
        let point = key.public_key().as_ref().to_vec();
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(&point));
        Some(Self {
            key,
            public: UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            key_id,
            random,
        })
    }

    /// A token for these claims; nothing when the random source fails.
    pub(crate) fn sign(&self, claims: &Claims) -> Option<String> {
        let header = serde_json::json!({"alg": "ES256", "kid": self.key_id});
        let encode = |value: String| URL_SAFE_NO_PAD.encode(value);
        let message = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(serde_json::to_string(claims).ok()?)
        );
        let signature = self.key.sign(&self.random, message.as_bytes()).ok()?;
        Some(format!(
            "{message}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }

    /// The claims of a token that we signed and that is valid at `now`.
    pub(crate) fn verify(&self, token: &str, now: i64) -> Option<Claims> {
        let (message, signature) = token.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.public.verify(message.as_bytes(), &signature).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        (claims.iss == ISSUER && claims.nbf <= now && now < claims.exp).then_some(claims)
    }

    /// The public key as a JSON web key set.
    pub(crate) fn key_set(&self) -> serde_json::Value {
        let point = self.key.public_key().as_ref();
        let coordinate = |range: std::ops::Range<usize>| {
            URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default())
        };
        serde_json::json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": coordinate(1..33), "y": coordinate(33..65),
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(exp: i64) -> Claims {
        let account = Bound {
            name: "bot".to_owned(),
            uid: "u".to_owned(),
        };
        let kubernetes = KubernetesClaim {
            namespace: "n".to_owned(),
            serviceaccount: account,
            pod: None,
            secret: None,
            node: None,
        };
        Claims {
            aud: vec![ISSUER.to_owned()],
            exp,
            iat: 10,
            iss: ISSUER.to_owned(),
            jti: "1".to_owned(),
            kubernetes,
            nbf: 10,
            sub: "system:serviceaccount:n:bot".to_owned(),
        }
    }

    #[test]
    fn only_our_unexpired_unchanged_tokens_are_valid() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        let signer = TokenSigner::new(&key).unwrap();
        let other = TokenSigner::new(&rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap();
        let token = signer.sign(&claims(100)).unwrap();
        assert_eq!(signer.verify(&token, 99), Some(claims(100)));
        assert_eq!(signer.verify(&token, 100), None);
        assert_eq!(signer.verify(&token, 9), None);
        assert_eq!(other.verify(&token, 50), None);
        let forged = token.replacen('.', ".e30", 1);
        assert_eq!(signer.verify(&forged, 50), None);
    }
}
