//! What a request asks for, read from its method, path and query.

use http::Method;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The verb as RBAC and discovery spell it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// The query parameters, decoded, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether a boolean parameter is set.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.0.iter().any(|(key, value)| {
            key == name && matches!(value.as_str(), "" | "true" | "1" | "True" | "TRUE" | "t")
        })
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }
}

/// A request for a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) verb: Verb,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

/// What a path is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// An object, a collection or a subresource.
    Resource(Target),
    /// Anything else: discovery, documents, health.
    Path,
}

/// Reads method and path.
pub(crate) fn route(method: &Method, path: &str, query: &Query) -> Option<Route> {
    let segments: Option<Vec<String>> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(decode)
        .collect();
    let segments = segments?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Some(Route::Path),
    };
    let (watching, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let (namespace, rest) = match rest {
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, rest @ ..] => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource @ ..] => (*plural, Some(*name), Some(subresource.join("/"))),
        [] => return Some(Route::Path),
    };
    let watching = watching || (query.has("watch") && query.is_true("watch"));
    let verb = verb(method, name.is_some(), watching && subresource.is_none())?;
    // A namespace is its own namespace for authorization.
    let namespace = namespace.map(str::to_owned);
    Some(Route::Resource(Target {
        verb,
        group: group.to_owned(),
        version: version.to_owned(),
        namespace,
        plural: plural.to_owned(),
        name: name.map(str::to_owned),
        subresource,
    }))
}

fn verb(method: &Method, named: bool, watching: bool) -> Option<Verb> {
    Some(match *method {
        Method::GET | Method::HEAD if watching => Verb::Watch,
        Method::GET | Method::HEAD if named => Verb::Get,
        Method::GET | Method::HEAD => Verb::List,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if named => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ => return None,
    })
}

fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail.get(2..)?;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verb, namespace, plural, name and subresource.
    type Shown<'a> = (
        Verb,
        Option<&'a str>,
        &'a str,
        Option<&'a str>,
        Option<&'a str>,
    );

    #[track_caller]
    fn check(method: &Method, path: &str, expected: Option<Shown<'_>>) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let found = match route(method, path, &Query::parse(Some(query))) {
            Some(Route::Resource(target)) => Some(target),
            _ => None,
        };
        let found = found.as_ref().map(|target| {
            (
                target.verb,
                target.namespace.as_deref(),
                target.plural.as_str(),
                target.name.as_deref(),
                target.subresource.as_deref(),
            )
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn paths_and_methods_become_verbs_and_targets() {
        check(
            &Method::GET,
            "/api/v1/pods",
            Some((Verb::List, None, "pods", None, None)),
        );
        check(
            &Method::GET,
            "/api/v1/namespaces",
            Some((Verb::List, None, "namespaces", None, None)),
        );
        check(
            &Method::PUT,
            "/api/v1/namespaces/a/finalize",
            Some((
                Verb::Update,
                None,
                "namespaces",
                Some("a"),
                Some("finalize"),
            )),
        );
        check(
            &Method::GET,
            "/api/v1/namespaces/a/pods?watch=1",
            Some((Verb::Watch, Some("a"), "pods", None, None)),
        );
        check(
            &Method::POST,
            "/api/v1/namespaces/a/pods/p/exec",
            Some((Verb::Create, Some("a"), "pods", Some("p"), Some("exec"))),
        );
        check(
            &Method::DELETE,
            "/apis/g/v/things",
            Some((Verb::DeleteCollection, None, "things", None, None)),
        );
        check(
            &Method::GET,
            "/apis/g/v/things/system%3Aadmin",
            Some((Verb::Get, None, "things", Some("system:admin"), None)),
        );
        check(&Method::GET, "/apis/apps/v1", None);
        check(&Method::GET, "/openapi/v3", None);
    }
}
