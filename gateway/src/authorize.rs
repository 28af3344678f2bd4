//! Authorize: who calls, by the bearer key, and which routes the caller may use.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use protocol::{key::digest, openai::ErrorKind};

use crate::{
    fault::Fault,
    jwt::Rejected,
    people::{Key, People, Terms},
    table::{Access, Route, Table},
};

/// Who calls.
#[derive(Debug, Clone)]
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
    /// A token that names a key of its issuer's that is not known, perhaps not yet.
    UnknownSigner,
    /// A key that is blocked, or whose team or user is.
    Blocked,
}

impl Unauthorized {
    /// The fault that the caller sees.
    pub(crate) fn fault(self) -> Fault {
        let message = match self {
            Self::Missing => {
                "You didn't provide an API key. Send it in the header `Authorization: Bearer YOUR_KEY`."
            }
            Self::Wrong | Self::UnknownSigner => {
                "Incorrect API key provided. Check the key, or ask for a new one."
            }
            Self::Expired => "The API key has expired. Ask for a new one.",
            Self::Blocked => {
                "The API key is blocked, or its team or its user is. Ask who gave it to you."
            }
        };
        Fault::new(ErrorKind::InvalidApiKey, message)
    }
}

/// Finds out who calls: keys are declared in the table, or made at run time.
pub(crate) fn authorize(
    table: &Table,
    people: &People,
    headers: &HeaderMap,
    now: Timestamp,
) -> Caller {
    let Some(secret) = bearer(headers) else {
        return Caller::Nobody(Unauthorized::Missing);
    };
    let digest = digest(secret);
    let declared = table.key(&digest).cloned();
    let made = declared.or_else(|| people.key(&digest));
    let token = || people.token_of(&table.issuers, secret, digest, now);
    match made.map(Ok).or_else(token) {
        Some(Ok(key)) => Caller::of(Some(key), now),
        Some(Err(Rejected::Expired)) => Caller::Nobody(Unauthorized::Expired),
        Some(Err(Rejected::UnknownKey)) => Caller::Nobody(Unauthorized::UnknownSigner),
        Some(Err(Rejected::Invalid)) | None => Caller::Nobody(Unauthorized::Wrong),
    }
}

impl Caller {
    /// The holder of a key, if it is one that may be used now.
    pub(crate) fn of(key: Option<Arc<Key>>, now: Timestamp) -> Self {
        let Some(key) = key else {
            return Self::Nobody(Unauthorized::Wrong);
        };
        if key.expires.is_some_and(|expires| expires <= now) {
            return Self::Nobody(Unauthorized::Expired);
        }
        if key.terms.as_ref().is_some_and(|terms| terms.is_blocked()) {
            return Self::Nobody(Unauthorized::Blocked);
        }
        Self::Key(key)
    }

    /// Whether the caller may use a route.
    pub(crate) fn may_use(&self, route: &Route) -> bool {
        match (self, &route.access) {
            (_, Access::Open) => true,
            _ if self.is_trusted_by(route) => true,
            (Self::Key(key), Access::AnyKey) => {
                let signed = key.signed.as_ref();
                signed.is_none_or(|signed| signed.is_trusted_everywhere)
            }
            (Self::Key(key), Access::Keys(ids)) => {
                let opens = |terms: &Terms| terms.opens(&route.id);
                ids.contains(&*key.id) || key.terms.as_deref().is_some_and(opens)
            }
            (Self::Nobody(_), Access::AnyKey | Access::Keys(_)) => false,
        }
    }

    /// Whether the caller may ask for a model.
    pub(crate) fn may_ask_for(&self, model: &str) -> bool {
        self.terms().is_none_or(|terms| terms.allows(model))
    }

    /// What was said of the caller's key.
    pub(crate) fn terms(&self) -> Option<&Terms> {
        match self {
            Self::Key(key) => key.terms.as_deref(),
            Self::Nobody(_) => None,
        }
    }

    /// The team that the caller's key belongs to.
    pub(crate) fn team(&self) -> Option<&str> {
        let team = self.terms().map(|terms| terms.team.as_str());
        team.filter(|team| !team.is_empty())
    }

    /// The user whom the caller's key belongs to.
    pub(crate) fn user(&self) -> Option<&str> {
        let user = self.terms().map(|terms| terms.user.as_str());
        user.filter(|user| !user.is_empty())
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
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
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
    use crate::{
        people::People,
        table::{Lasting, Table},
    };

    #[track_caller]
    fn check(header: Option<&str>, expected: Result<&str, Unauthorized>) {
        let key = |id: &str, secret: &str, expires: Option<&str>| KeyEntry {
            id: id.to_owned(),
            hash: hash_key(secret),
            expires: expires.map(str::to_owned),
            ..KeyEntry::default()
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
        let caller = authorize(&table, &People::default(), &headers, Timestamp::now());
        match (caller, expected) {
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
