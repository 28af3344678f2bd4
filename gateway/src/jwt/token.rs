//! Tokens: what an issuer says of a caller, checked. Pure.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::keys::{Algorithm, KeySet};

/// Bytes of a token.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How far clocks may differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// What tokens are checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Expected {
    /// Who must have issued it.
    pub(super) issuer: String,
    /// Whom it must be for.
    pub(super) audience: String,
}

/// Who a token says has issued it, and for whom; not checked.
#[derive(Debug, Deserialize)]
pub(super) struct Aim {
    iss: Value,
    aud: Value,
}

impl Aim {
    /// Whether it is what is expected.
    pub(super) fn fits(&self, expected: &Expected) -> bool {
        let is_audience = match &self.aud {
            Value::Array(list) => list.iter().any(|one| *one == expected.audience),
            one => *one == expected.audience,
        };
        is_audience && self.iss == expected.issuer
    }
}

/// Who a token says has issued it, and for whom, before anything of it is checked.
pub(super) fn aim(token: &str) -> Option<Aim> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// What a checked token says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claims {
    /// Everything.
    pub(super) all: Map<String, Value>,
    /// When it ends.
    pub(super) expires: Timestamp,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It is no token, or nothing of it fits.
    Invalid,
    /// It names a key that is not known; the issuer may have a new one.
    UnknownKey,
    /// Its time is over.
    Expired,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood; none are.
    #[serde(default)]
    crit: Option<Value>,
}

/// Whether a bearer looks like a token.
pub(crate) fn is_token(bearer: &str) -> bool {
    bearer.len() <= TOKEN_BYTES_MAX
        && bearer.starts_with("ey")
        && bearer.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// What a token says, if its issuer has signed it for us and its time is not over.
///
/// # Errors
/// [`Rejected`]
pub(super) fn check(
    token: &str,
    keys: &KeySet,
    expected: &Expected,
    now: Timestamp,
) -> Result<Claims, Rejected> {
    let (message, signature) = token.rsplit_once('.').ok_or(Rejected::Invalid)?;
    let (header, payload) = message.split_once('.').ok_or(Rejected::Invalid)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejected::Invalid);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Rejected::Invalid)?;
    // Nothing else, above all not `none` and not HS256, whose key would be the public one.
    let algorithm = match header.alg.as_str() {
        "RS256" => Algorithm::Rs256,
        "ES256" => Algorithm::Es256,
        _ => return Err(Rejected::Invalid),
    };
    if header.crit.is_some() {
        return Err(Rejected::Invalid);
    }
    let id = header.kid.as_deref();
    if !keys.knows(id) {
        return Err(Rejected::UnknownKey);
    }
    if !keys.verifies(id, algorithm, message.as_bytes(), &decode(signature)?) {
        return Err(Rejected::Invalid);
    }
    let all: Map<String, Value> =
        serde_json::from_slice(&decode(payload)?).map_err(|_| Rejected::Invalid)?;
    let is_issuer = all
        .get("iss")
        .is_some_and(|issuer| *issuer == expected.issuer);
    let is_audience = all.get("aud").is_some_and(|audience| match audience {
        Value::Array(list) => list.iter().any(|one| *one == expected.audience),
        one => *one == expected.audience,
    });
    if !is_issuer || !is_audience {
        return Err(Rejected::Invalid);
    }
    let time = |name: &str| {
        let seconds = all.get(name).map(|time| time.as_f64().unwrap_or(f64::NAN));
        seconds.map(|seconds| Timestamp::from_second(seconds as i64).map_err(|_| Rejected::Invalid))
    };
    // A token without an end is none.
    let expires = time("exp").ok_or(Rejected::Invalid)??;
    let until = expires.checked_add(LEEWAY).map_err(|_| Rejected::Invalid)?;
    if until <= now {
        return Err(Rejected::Expired);
    }
    if let Some(begins) = time("nbf") {
        let begins = begins?.checked_sub(LEEWAY).map_err(|_| Rejected::Invalid)?;
        if now < begins {
            return Err(Rejected::Invalid);
        }
    }
    Ok(Claims {
        all,
        expires: until,
    })
}
