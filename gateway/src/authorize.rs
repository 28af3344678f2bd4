//! Authorize: who calls, by the bearer key, and which routes the caller may use.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use protocol::{key::digest, openai::ErrorKind};

use crate::{
    fault::Fault,
    table::{Access, Key, Table},
};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The holder of a key.
    Key(Arc<Key>),
    /// Somebody without a valid key, and what is wrong; open routes do not mind.
    Nobody(Unauthorized),
}

/// Why a caller has no valid key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// No `Authorization: Bearer` header.
    Missing,
    /// A key that nobody has.
    Wrong,
    /// A key whose time is over.
    Expired,
}

impl Unauthorized {
    /// The fault that the caller sees.
    pub(crate) fn fault(self) -> Fault {
        let message = match self {
            Self::Missing => {
                "You didn't provide an API key. Send it in the header `Authorization: Bearer YOUR_KEY`."
            }
            Self::Wrong => "Incorrect API key provided. Check the key, or ask for a new one.",
            Self::Expired => "The API key has expired. Ask for a new one.",
        };
        Fault::new(ErrorKind::InvalidApiKey, message)
    }
}

/// Finds out who calls.
pub(crate) fn authorize(table: &Table, headers: &HeaderMap, now: Timestamp) -> Caller {
    let Some(secret) = bearer(headers) else {
        return Caller::Nobody(Unauthorized::Missing);
    };
    let Some(key) = table.key(&digest(secret)) else {
        return Caller::Nobody(Unauthorized::Wrong);
    };
    if key.expires.is_some_and(|expires| expires <= now) {
        return Caller::Nobody(Unauthorized::Expired);
    }
    Caller::Key(Arc::clone(key))
}

impl Caller {
    /// Whether the caller may use what is accessible so.
    pub(crate) fn may_use(&self, access: &Access) -> bool {
        match (self, access) {
            (_, Access::Open) | (Self::Key(_), Access::AnyKey) => true,
            (Self::Key(key), Access::Keys(ids)) => ids.contains(&*key.id),
            (Self::Nobody(_), Access::AnyKey | Access::Keys(_)) => false,
        }
    }

    /// The account in the ledger.
    pub(crate) fn account(&self) -> &str {
        match self {
            Self::Key(key) => &key.id,
            Self::Nobody(_) => "",
        }
    }
}

/// The bearer token, or the key in the header of Anthropic's clients or of Azure's; the scheme's case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        return headers.get("api-key")?.to_str().ok();
    };
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};
    use jiff::Timestamp;
    use protocol::{
        key::hash_key,
        snapshot::{GatewaySnapshot, KeyEntry},
    };

    use super::{Caller, Unauthorized, authorize};
    use crate::table::{Lasting, Table};

    #[track_caller]
    fn check(header: Option<&str>, expected: Result<&str, Unauthorized>) {
        let key = |id: &str, secret: &str, expires: Option<&str>| KeyEntry {
            id: id.to_owned(),
            hash: hash_key(secret),
            expires: expires.map(str::to_owned),
        };
        let keys = vec![
            key("ns/a", "qd-a", None),
            key("ns/old", "qd-old", Some("2020-01-01T00:00:00Z")),
            key("ns/new", "qd-new", Some("2999-01-01T00:00:00Z")),
        ];
        let table =
            Table::compile(&GatewaySnapshot::new(Vec::new(), keys), &Lasting::default()).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(
                header::AUTHORIZATION,
                HeaderValue::from_str(header).unwrap(),
            );
        }
        match (authorize(&table, &headers, Timestamp::now()), expected) {
            (Caller::Key(key), Ok(id)) => assert_eq!(key.id, id),
            (Caller::Nobody(why), Err(expected)) => assert_eq!(why, expected),
            (caller, expected) => panic!("{caller:?} is not {expected:?}"),
        }
    }

    #[test]
    fn a_caller_is_known_by_a_valid_key_only() {
        check(Some("Bearer qd-a"), Ok("ns/a"));
        check(Some("bearer  qd-a "), Ok("ns/a"));
        check(Some("Bearer qd-new"), Ok("ns/new"));
        check(Some("Bearer qd-old"), Err(Unauthorized::Expired));
        check(Some("Bearer qd-b"), Err(Unauthorized::Wrong));
        check(Some("Basic qd-a"), Err(Unauthorized::Missing));
        check(Some("Bearer "), Err(Unauthorized::Missing));
        check(None, Err(Unauthorized::Missing));
    }
}
