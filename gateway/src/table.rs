//! The immutable table that requests are routed by, compiled from a snapshot.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Uri};
use jiff::Timestamp;
use protocol::{
    key::parse_hash,
    snapshot::{self, Affinity, GatewaySnapshot, KeyEntry, Prices, RouteEntry, Strategy, Timeouts},
};
use thiserror::Error;

use crate::{
    cache::{self, Cache},
    endpoint::{Caches, Endpoint, Endpoints},
    fallback::Fallbacks,
    limits::{self, Registry, Rule},
    mcp::{Directory, ToolServers},
    metrics::TargetSeries,
    retry::Budget,
};

/// The SHA-256 of a key.
type Digest = [u8; 32];

/// What outlives the tables.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    /// Endpoints, with their health and their load.
    pub(crate) endpoints: Endpoints,
    /// What is used of limits.
    pub(crate) meters: Registry,
    /// Answers that are given again.
    pub(crate) caches: cache::Registry,
}

/// What requests are routed by.
#[derive(Debug)]
pub(crate) struct Table {
    /// The snapshot's version.
    pub(crate) version: String,
    /// The routes, in order of precedence.
    pub(crate) routes: Vec<Arc<Route>>,
    /// When the table was made; models list it as their creation.
    pub(crate) created: Timestamp,
    /// Whether anybody may use a route without a key.
    pub(crate) has_open_route: bool,
    /// The places of routes that answer a name, by the name.
    exact: HashMap<String, Vec<usize>>,
    /// The places of routes with patterns.
    patterned: Vec<usize>,
    /// The keys, by their SHA-256.
    keys: HashMap<Digest, Arc<Key>>,
    /// The tool servers of all routes.
    pub(crate) tools: Directory,
}

/// Who may use a route.
#[derive(Debug)]
pub(crate) enum Access {
    /// The keys of these ids.
    Keys(HashSet<String>),
    /// Every key.
    AnyKey,
    /// Everybody, without a key.
    Open,
}

/// A key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The ledger's account.
    pub(crate) id: String,
    /// When it ends.
    pub(crate) expires: Option<Timestamp>,
}

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    /// `NAMESPACE/NAME`.
    pub(crate) id: String,
    /// The model names that it answers.
    pub(crate) models: Vec<Pattern>,
    /// How a target is picked.
    pub(crate) strategy: Strategy,
    /// Where requests go.
    pub(crate) targets: Vec<Target>,
    /// Tries after the first.
    pub(crate) retries_max: u32,
    /// What takes over when a target gives no answer.
    pub(crate) fallbacks: Fallbacks,
    /// The wait before the first retry at the same endpoint; it doubles with each.
    pub(crate) backoff: Duration,
    /// How long to wait.
    pub(crate) timeouts: Timeouts,
    /// Who may use it.
    pub(crate) access: Access,
    /// What is left for retries.
    pub(crate) budget: Arc<Budget>,
    /// What it gives its callers.
    pub(crate) rules: Vec<Rule>,
    /// The answers that it gives again.
    pub(crate) cache: Option<Arc<Cache>>,
    /// Its tool servers.
    pub(crate) mcp: Option<ToolServers>,
}

/// A place that answers requests.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name in the route.
    pub(crate) name: String,
    /// The model's name there.
    pub(crate) model: String,
    /// Its replicas.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// What is known of their caches, if replicas are picked by it.
    pub(crate) caches: Option<Caches>,
    /// Its share of the traffic.
    pub(crate) weight: u32,
    /// Its place in the order of failover.
    pub(crate) priority: u32,
    /// The value of the `Authorization` header for its endpoints.
    pub(crate) authorization: Option<HeaderValue>,
    /// What its tokens cost.
    pub(crate) prices: Prices,
    /// `NAMESPACE/ROUTE/TARGET`, which the client is told.
    pub(crate) shown: HeaderValue,
    /// Its series in the metrics.
    pub(crate) series: Arc<TargetSeries>,
}

/// A model name, or all that begin or end alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Exactly this name.
    Exact(String),
    /// Every name that begins so.
    Prefix(String),
    /// Every name that ends so.
    Suffix(String),
}

/// What is wrong with a snapshot; the operator shows it in the route's status.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum InvalidSnapshot {
    /// A URL that no request can be sent to.
    #[error("route {route}: target {target}: `{url}` is not an http or https URL")]
    Url {
        /// The route.
        route: String,
        /// The target.
        target: String,
        /// The URL.
        url: String,
    },
    /// A pattern with a star in the middle, or more than one.
    #[error("route {route}: `{pattern}` has a `*` elsewhere than at its beginning or its end")]
    Pattern {
        /// The route.
        route: String,
        /// The pattern.
        pattern: String,
    },
    /// A credential that no header can carry.
    #[error(
        "route {route}: target {target}: the credential holds characters that no header can carry"
    )]
    Credential {
        /// The route.
        route: String,
        /// The target.
        target: String,
    },
    /// A time that is not RFC 3339.
    #[error("key {key}: `{expires}` is not an RFC 3339 time")]
    Expiry {
        /// The key.
        key: String,
        /// The text.
        expires: String,
    },
}

impl Table {
    /// Compiles a snapshot; endpoints that were known keep their health and their load, and limits what is used of them.
    ///
    /// # Errors
    /// [`InvalidSnapshot`]; nothing of the snapshot is used then.
    pub(crate) fn compile(
        snapshot: &GatewaySnapshot,
        lasting: &Lasting,
    ) -> Result<Self, InvalidSnapshot> {
        let keys = snapshot
            .keys
            .iter()
            .map(compile_key)
            .collect::<Result<Vec<_>, _>>()?;
        let routes = snapshot
            .routes
            .iter()
            .map(|route| compile_route(route, lasting).map(Arc::new));
        let routes: Vec<Arc<Route>> = routes.collect::<Result<_, _>>()?;
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut patterned = Vec::new();
        for (place, route) in routes.iter().enumerate() {
            let mut is_patterned = false;
            for pattern in &route.models {
                match pattern {
                    Pattern::Exact(name) => exact.entry(name.clone()).or_default().push(place),
                    Pattern::Prefix(_) | Pattern::Suffix(_) => is_patterned = true,
                }
            }
            patterned.extend(is_patterned.then_some(place));
        }
        Ok(Self {
            version: snapshot.version.clone(),
            tools: Directory::of(&routes),
            has_open_route: routes
                .iter()
                .any(|route| matches!(route.access, Access::Open)),
            routes,
            created: Timestamp::now(),
            exact,
            patterned,
            keys: keys.into_iter().flatten().collect(),
        })
    }

    /// The key with this SHA-256.
    pub(crate) fn key(&self, digest: &Digest) -> Option<&Arc<Key>> {
        self.keys.get(digest)
    }

    /// The routes that answer a model name, in order of precedence.
    pub(crate) fn answering<'a, 'm>(
        &'a self,
        model: &'m str,
    ) -> impl Iterator<Item = &'a Arc<Route>> + use<'a, 'm> {
        let exact = self.exact.get(model).map_or(&[][..], Vec::as_slice);
        let patterned = self.patterned.iter().filter(move |place| {
            let mut patterns = self.routes[**place].models.iter();
            patterns.any(|pattern| pattern.matches(model))
        });
        let (mut exact, mut patterned) = (exact.iter().peekable(), patterned.peekable());
        let places = std::iter::from_fn(move || match (exact.peek(), patterned.peek()) {
            (Some(left), Some(right)) if left == right => {
                patterned.next();
                exact.next()
            }
            (Some(left), Some(right)) if right < left => patterned.next(),
            (Some(_), _) => exact.next(),
            (None, _) => patterned.next(),
        });
        places.map(|place| &self.routes[*place])
    }
}

/// A key, by its hash; nobody can have one whose hash is none.
fn compile_key(entry: &KeyEntry) -> Result<Option<(Digest, Arc<Key>)>, InvalidSnapshot> {
    let expires = entry.expires.as_ref().map(|text| {
        text.parse().map_err(|_| InvalidSnapshot::Expiry {
            key: entry.id.clone(),
            expires: text.clone(),
        })
    });
    let key = Arc::new(Key {
        id: entry.id.clone(),
        expires: expires.transpose()?,
    });
    Ok(parse_hash(&entry.hash).map(|hash| (hash, key)))
}

fn compile_route(entry: &RouteEntry, lasting: &Lasting) -> Result<Route, InvalidSnapshot> {
    let id = format!("{}/{}", entry.namespace, entry.name);
    let models = entry
        .models
        .iter()
        .map(|pattern| Pattern::parse(pattern, &id));
    let models = models.collect::<Result<Vec<_>, _>>()?;
    let targets = entry.targets.iter().map(|target| {
        let context = |url: &str| InvalidSnapshot::Url {
            route: id.clone(),
            target: target.name.clone(),
            url: url.to_owned(),
        };
        let compiled = target.endpoints.iter().map(|url| {
            if !is_http(url) {
                return Err(context(url));
            }
            lasting.endpoints.get(url).ok_or_else(|| context(url))
        });
        let authorization = target.credential.as_ref().map(|credential| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", credential.expose()))
                .map_err(|_| InvalidSnapshot::Credential {
                    route: id.clone(),
                    target: target.name.clone(),
                })?;
            value.set_sensitive(true);
            Ok(value)
        });
        let endpoints: Vec<Arc<Endpoint>> = compiled.collect::<Result<_, _>>()?;
        let caches = match entry.affinity {
            Affinity::Prefix if 1 < endpoints.len() => {
                let name = format!("{id}/{}", target.name);
                lasting.endpoints.caches(&name, &endpoints)
            }
            _ => None,
        };
        Ok(Target {
            name: target.name.clone(),
            model: target.model.clone(),
            endpoints,
            caches,
            weight: target.weight,
            priority: target.priority,
            authorization: authorization.transpose()?,
            prices: target.prices.unwrap_or_default(),
            // Names of resources and targets are letters, digits and hyphens.
            shown: HeaderValue::from_str(&format!("{id}/{}", target.name))
                .unwrap_or(HeaderValue::from_static("")),
            series: Arc::default(),
        })
    });
    Ok(Route {
        targets: targets.collect::<Result<_, _>>()?,
        models,
        strategy: entry.strategy,
        retries_max: entry.retries.attempts,
        fallbacks: Fallbacks::new(&entry.fallbacks),
        backoff: Duration::from_millis(entry.retries.backoff_millis),
        timeouts: entry.timeouts,
        access: match &entry.access {
            snapshot::Access::Keys(ids) => Access::Keys(ids.iter().cloned().collect()),
            snapshot::Access::AnyKey => Access::AnyKey,
            snapshot::Access::Open => Access::Open,
        },
        budget: lasting.endpoints.budget(&id),
        rules: limits::rules(&id, &entry.limits, &entry.budgets, &lasting.meters),
        cache: entry
            .cache
            .map(|settings| lasting.caches.cache(&id, settings)),
        mcp: entry
            .mcp
            .as_ref()
            .map(|mcp| ToolServers::compile(&id, mcp))
            .transpose()?,
        id,
    })
}

/// Whether requests can be sent to a URL.
pub(crate) fn is_http(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
}

impl Pattern {
    /// A pattern of a route.
    ///
    /// # Errors
    /// A `*` elsewhere than at one end.
    pub(crate) fn parse(text: &str, route: &str) -> Result<Self, InvalidSnapshot> {
        let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (_, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            (Some(suffix), None) => Self::Suffix(suffix.to_owned()),
            (None, None) => Self::Exact(text.to_owned()),
        };
        let (Self::Exact(rest) | Self::Prefix(rest) | Self::Suffix(rest)) = &pattern;
        if rest.contains('*') {
            return Err(InvalidSnapshot::Pattern {
                route: route.to_owned(),
                pattern: text.to_owned(),
            });
        }
        Ok(pattern)
    }

    /// Whether the pattern answers this name.
    pub(crate) fn matches(&self, model: &str) -> bool {
        match self {
            Self::Exact(name) => name == model,
            Self::Prefix(prefix) => model.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => model.ends_with(suffix.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidSnapshot, Pattern};

    #[track_caller]
    fn check(pattern: &str, model: &str, expected: bool) {
        assert_eq!(
            Pattern::parse(pattern, "ns/r").unwrap().matches(model),
            expected,
            "{pattern} on {model}"
        );
    }

    #[test]
    fn a_star_stands_for_anything_at_one_end() {
        check("gpt", "gpt", true);
        check("gpt", "gpt-4", false);
        check("gpt-*", "gpt-4", true);
        check("gpt-*", "gpt-", true);
        check("gpt-*", "my-gpt-4", false);
        check("*-mini", "gpt-mini", true);
        check("*-mini", "mini", false);
        check("*", "anything", true);
        let refused = |pattern: &str| Pattern::parse(pattern, "ns/r");
        for pattern in ["a*b", "*a*", "**"] {
            let expected = InvalidSnapshot::Pattern {
                route: "ns/r".to_owned(),
                pattern: pattern.to_owned(),
            };
            assert_eq!(refused(pattern), Err(expected));
        }
    }
}
