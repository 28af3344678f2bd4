//! The public keys of an issuer, as it publishes them (a JSON Web Key Set).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// Keys of one issuer that are used; the rest is not read.
const KEYS_MAX: usize = 64;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSA with SHA-256.
    Rs256,
    /// The curve P-256 with SHA-256.
    Es256,
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<PublicKey>);

/// A key.
#[derive(Debug)]
struct PublicKey {
    /// Its name, if the issuer gives it one.
    id: Option<String>,
    material: Material,
}

/// What signatures are checked with.
#[derive(Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// The point, uncompressed.
    P256(Vec<u8>),
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl KeySet {
    /// Reads what an issuer publishes; keys of other kinds, and for encryption, are left out.
    ///
    /// # Errors
    /// It is no key set.
    pub(super) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let published: Published = serde_json::from_slice(text)?;
        let keys = published.keys.into_iter().take(KEYS_MAX);
        Ok(Self(keys.filter_map(public_key).collect()))
    }

    /// Whether there is a key of this name.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        self.named(id).next().is_some()
    }

    /// Whether a key of this name, and of the kind that the algorithm asks for, has signed the message.
    pub(super) fn verifies(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.named(id).any(|key| match (&key.material, algorithm) {
            (Material::Rsa { modulus, exponent }, Algorithm::Rs256) => {
                let components = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                components
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                    .is_ok()
            }
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
                    .is_ok()
            }
            // A token does not choose how a key is used.
            (Material::Rsa { .. }, Algorithm::Es256) | (Material::P256(_), Algorithm::Rs256) => {
                false
            }
        })
    }

    /// The keys of a name; all of them for a token that names none.
    fn named(&self, id: Option<&str>) -> impl Iterator<Item = &PublicKey> {
        self.0
            .iter()
            .filter(move |key| id.is_none() || key.id.as_deref() == id)
    }
}

fn public_key(published: PublishedKey) -> Option<PublicKey> {
    if published.usage.is_some_and(|usage| usage != "sig") {
        return None;
    }
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .filter(|bytes| !bytes.is_empty())
    };
    let material = match (published.kty.as_str(), published.crv.as_deref()) {
        ("RSA", _) => Material::Rsa {
            modulus: decode(&published.n)?,
            exponent: decode(&published.e)?,
        },
        ("EC", Some("P-256")) => {
            const UNCOMPRESSED: u8 = 4;
            let mut point = vec![UNCOMPRESSED];
            point.extend(decode(&published.x)?);
            point.extend(decode(&published.y)?);
            Material::P256(point)
        }
        _ => return None,
    };
    Some(PublicKey {
        id: published.kid,
        material,
    })
}
