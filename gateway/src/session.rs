//! What names the session of a request: a header, a cookie, its user, its cache key, or the caller's key. Pure.

use std::borrow::Cow;

use http::{HeaderMap, header};
use protocol::routing;
use serde::Deserialize;

use crate::{authorize::Caller, decode::Decoded, policy::Session};

/// The fields of bodies that can name a session.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Names<'a> {
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    safety_identifier: Option<Cow<'a, str>>,
    #[serde(borrow)]
    prompt_cache_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    /// Where Anthropic's API has the user.
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
}

/// The session of a request; `None` if nothing names it.
pub(crate) fn session(
    source: &routing::Session,
    caller: &Caller,
    headers: &HeaderMap,
    decoded: &Decoded,
) -> Option<Session> {
    let names = || serde_json::from_slice::<Names<'_>>(&decoded.body).unwrap_or_default();
    let name = match source {
        routing::Session::Header(name) => Cow::Borrowed(headers.get(name)?.as_bytes()),
        routing::Session::Cookie(name) => Cow::Borrowed(cookie(headers, name)?.as_bytes()),
        routing::Session::Key => Cow::Borrowed(caller.account().as_bytes()),
        routing::Session::PromptCacheKey => bytes(names().prompt_cache_key?),
        routing::Session::User => {
            let names = names();
            let user_id = || names.metadata?.user_id;
            let user = names.user.or(names.safety_identifier).or_else(user_id);
            bytes(user?)
        }
    };
    (!name.is_empty()).then(|| Session::new(&name))
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lists = headers.get_all(header::COOKIE).iter();
    let pairs = lists.filter_map(|list| list.to_str().ok());
    let mut pairs = pairs.flat_map(|list| list.split(';'));
    pairs.find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use protocol::routing::Session::{self, Cookie, Header, Key, PromptCacheKey, User};

    use super::session;
    use crate::{
        authorize::{Caller, Unauthorized},
        call::Operation,
        decode::Decoded,
        policy,
    };

    #[track_caller]
    fn check(source: &Session, body: &'static str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert("x-session", HeaderValue::from_static("one"));
        headers.insert("cookie", HeaderValue::from_static("a=1; sid=two ;b"));
        let decoded = Decoded::of(Operation::Chat, body);
        let caller = Caller::Nobody(Unauthorized::Missing);
        let found = session(source, &caller, &headers, &decoded);
        let expected = expected.map(|name| policy::Session::new(name.as_bytes()));
        assert_eq!(found, expected, "{source:?} of {body}");
    }

    #[test]
    fn a_session_is_found_where_the_route_says() {
        let plain = r#"{"model":"m"}"#;
        check(&Header("x-session".to_owned()), plain, Some("one"));
        check(&Header("x-other".to_owned()), plain, None);
        check(&Cookie("sid".to_owned()), plain, Some("two"));
        check(&Cookie("s".to_owned()), plain, None);
        let named = r#"{"model":"m","user":"\u0061nn","prompt_cache_key":"k"}"#;
        check(&User, named, Some("ann"));
        check(&PromptCacheKey, named, Some("k"));
        let message = r#"{"model":"m","metadata":{"user_id":"bob"}}"#;
        check(&User, message, Some("bob"));
        check(&User, r#"{"model":"m","user":7}"#, None);
        check(&PromptCacheKey, plain, None);
        check(&Key, plain, None);
    }
}
