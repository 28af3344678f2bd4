//! The immutable table that requests are routed by, compiled from a snapshot.

mod naming;
mod pattern;
mod target;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use protocol::{
    key::parse_hash,
    routing::{self, Session},
    snapshot::{self, GatewaySnapshot, KeyEntry, RouteEntry, Strategy, Timeouts},
};
use thiserror::Error;

pub(crate) use self::{
    naming::Unnamable,
    pattern::{InvalidPattern, Pattern},
    target::{Target, is_http},
};
use crate::{
    a2a::Agents,
    cache::{self, Cache, InvalidStore},
    condition::{Condition, InvalidCondition},
    demand,
    endpoint::Endpoints,
    fallback::Fallbacks,
    guard::Guards,
    hedging::Hedging,
    jwt::{self, Issuer, Trust},
    limits::{self, Registry, Rule},
    mcp::{Directory, ToolServers},
    mirror::{self, Mirror},
    people::{InvalidAllowance, Key, Parties, Said, Terms},
    prompts::Prompts,
    provider::{InvalidProvider, ServiceAccounts},
    queue::{self, Queue},
    retry::Budget,
};

/// The SHA-256 of a key.
type Digest = [u8; 32];

/// What outlives the tables.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    /// Service accounts of providers, with their access tokens.
    pub(crate) accounts: ServiceAccounts,
    /// Endpoints, with their health and their load.
    pub(crate) endpoints: Endpoints,
    /// What is used of limits.
    pub(crate) meters: Registry,
    /// Teams, users and tags.
    pub(crate) parties: Parties,
    /// Answers that are given again.
    pub(crate) caches: cache::Registry,
    /// Requests that wait.
    pub(crate) queues: queue::Registry,
    /// Models that have replicas only while they are wanted.
    pub(crate) demands: demand::Registry,
    /// Whose tokens routes take.
    pub(crate) issuers: jwt::Registry,
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
    /// Whether a route or a target has a condition.
    pub(crate) has_conditions: bool,
    /// Whether anybody may use a route without a key.
    pub(crate) has_open_route: bool,
    /// The places of routes that answer a name, by the name.
    exact: HashMap<String, Vec<usize>>,
    /// The places of routes with patterns.
    patterned: Vec<usize>,
    /// The keys, by their SHA-256.
    keys: HashMap<Digest, Arc<Key>>,
    /// The SHA-256 of keys, by their ids; of a key with several the last one.
    digests: HashMap<String, Digest>,
    /// The tool servers of all routes.
    pub(crate) tools: Directory,
    /// Whose tokens routes take.
    pub(crate) issuers: Vec<Arc<Issuer>>,
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

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    /// `NAMESPACE/NAME`.
    pub(crate) id: String,
    /// The model names that it answers.
    pub(crate) models: Vec<Pattern>,
    /// The same as they are declared, for labels of metrics.
    pub(crate) declared: Vec<Arc<str>>,
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
    /// Whose tokens it takes besides.
    pub(crate) jwt: Option<Trust>,
    /// What is left for retries.
    pub(crate) budget: Arc<Budget>,
    /// What names the session of a request.
    pub(crate) session: Option<Session>,
    /// The requests that it answers, if not all.
    pub(crate) when: Option<Condition>,
    /// Where requests over its concurrency wait.
    pub(crate) queue: Option<Arc<Queue>>,
    /// What callers may say of their requests' urgency, and who takes turns.
    pub(crate) turns: Option<routing::Queue>,
    /// How long requests wait for a first replica.
    pub(crate) cold_start: Option<Duration>,
    /// Whether a target has replicas only while it is wanted.
    pub(crate) is_on_demand: bool,
    /// Where copies of a share of its requests go.
    pub(crate) mirror: Option<Arc<Mirror>>,
    /// When a second replica is asked.
    pub(crate) hedging: Option<Arc<Hedging>>,
    /// What it gives its callers.
    pub(crate) rules: Vec<Rule>,
    /// The answers that it gives again.
    pub(crate) cache: Option<Arc<Cache>>,
    /// What looks at its requests and answers.
    pub(crate) guards: Option<Arc<Guards>>,
    /// What is put in front of its requests.
    pub(crate) prompts: Option<Arc<Prompts>>,
    /// Its tool servers.
    pub(crate) mcp: Option<ToolServers>,
    /// Its agents.
    pub(crate) a2a: Option<Agents>,
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
    /// A model's name with more than one star.
    #[error("route {route}: target {target}: the model `{model}` has more than one `*`")]
    Stars {
        /// The route.
        route: String,
        /// The target.
        target: String,
        /// The model's name there.
        model: String,
    },
    /// A URL of a metadata service, or of what is only on the same wire.
    #[error("route {route}: target {target}: no request may go to `{url}`")]
    Forbidden {
        /// The route.
        route: String,
        /// The target.
        target: String,
        /// The URL.
        url: String,
    },
    /// A condition that cannot be read.
    #[error("route {of}: {reason}")]
    Condition {
        /// The route, and the target.
        of: String,
        /// Why.
        reason: InvalidCondition,
    },
    /// A provider that no request can be sent to.
    #[error("route {route}: target {target}: {source}")]
    Provider {
        /// The route.
        route: String,
        /// The target.
        target: String,
        /// Why.
        source: InvalidProvider,
    },
    /// An allowance that contradicts itself.
    #[error("key {key}: {reason}")]
    Allowance {
        /// The key.
        key: String,
        /// Why.
        reason: InvalidAllowance,
    },
    /// A guard that cannot be compiled.
    #[error("route {route}: guard {guard}: {reason}")]
    Guard {
        /// The route.
        route: String,
        /// The guard.
        guard: String,
        /// Why.
        reason: String,
    },
    /// A cache's store that cannot be reached.
    #[error("route {route}: {reason}")]
    CacheStore {
        /// The route.
        route: String,
        /// Why.
        reason: InvalidStore,
    },
    /// Replicas that cannot trust each other.
    #[error("peers: token: {reason}")]
    Peers {
        /// Why.
        reason: String,
    },
    /// An issuer of tokens that cannot be asked.
    #[error("route {route}: the issuer of tokens: {reason}")]
    Issuer {
        /// The route.
        route: String,
        /// Why.
        reason: String,
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
            .map(|key| compile_key(key, lasting))
            .collect::<Result<Vec<_>, _>>()?;
        let routes = snapshot
            .routes
            .iter()
            .map(|route| compile_route(route, lasting).map(Arc::new));
        let routes: Vec<Arc<Route>> = routes.collect::<Result<_, _>>()?;
        lasting.endpoints.sweep();
        lasting.caches.sweep();
        lasting.queues.sweep();
        lasting.demands.sweep();
        lasting.issuers.sweep();
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
            has_conditions: routes.iter().any(|route| route.has_conditions()),
            tools: Directory::of(&routes),
            issuers: jwt::issuers(&routes),
            has_open_route: routes
                .iter()
                .any(|route| matches!(route.access, Access::Open)),
            routes,
            created: Timestamp::now(),
            exact,
            patterned,
            digests: keys
                .iter()
                .flatten()
                .map(|(digest, key)| (key.id.clone(), *digest))
                .collect(),
            keys: keys.into_iter().flatten().collect(),
        })
    }

    /// The key with this SHA-256.
    pub(crate) fn key(&self, digest: &Digest) -> Option<&Arc<Key>> {
        self.keys.get(digest)
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values().map(|key| &**key)
    }

    /// The key with this id.
    pub(crate) fn key_of(&self, id: &str) -> Option<&Arc<Key>> {
        self.key(self.digests.get(id)?)
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
fn compile_key(
    entry: &KeyEntry,
    lasting: &Lasting,
) -> Result<Option<(Digest, Arc<Key>)>, InvalidSnapshot> {
    let expires = entry.expires.as_ref().map(|text| {
        text.parse().map_err(|_| InvalidSnapshot::Expiry {
            key: entry.id.clone(),
            expires: text.clone(),
        })
    });
    let says_more = entry.team.is_some()
        || entry.user.is_some()
        || !entry.tags.is_empty()
        || !entry.allowance.is_empty();
    let said = says_more.then_some(Said {
        id: &entry.id,
        team: entry.team.as_deref(),
        user: entry.user.as_deref(),
        tags: &entry.tags,
        routes: &[],
        allowance: &entry.allowance,
        is_blocked: false,
    });
    let terms = said.map(|said| {
        let terms = Terms::compile(said, &lasting.parties, &lasting.meters);
        terms.map_err(|reason| InvalidSnapshot::Allowance {
            key: entry.id.clone(),
            reason,
        })
    });
    let key = Arc::new(Key {
        id: entry.id.clone(),
        expires: expires.transpose()?,
        terms: terms.transpose()?.map(Box::new),
        signed: None,
    });
    Ok(parse_hash(&entry.hash).map(|hash| (hash, key)))
}

fn compile_route(entry: &RouteEntry, lasting: &Lasting) -> Result<Route, InvalidSnapshot> {
    let id = format!("{}/{}", entry.namespace, entry.name);
    let parsed = entry.models.iter().map(|pattern| Pattern::parse(pattern));
    let models = parsed.map(|parsed| parsed.map_err(|invalid| invalid.of(&id)));
    let models = models.collect::<Result<Vec<_>, _>>()?;
    let targets = entry
        .targets
        .iter()
        .map(|target| Target::compile(&id, target, entry, lasting));
    let targets: Vec<Target> = targets.collect::<Result<_, _>>()?;
    Ok(Route {
        is_on_demand: targets.iter().any(|target| target.wanted.is_some()),
        targets,
        models,
        declared: entry
            .models
            .iter()
            .map(|model| Arc::from(&**model))
            .collect(),
        strategy: entry.strategy,
        retries_max: entry.retries.attempts,
        fallbacks: Fallbacks::new(&entry.fallbacks),
        mirror: mirror(entry, lasting)?,
        backoff: Duration::from_millis(entry.retries.backoff_millis),
        timeouts: entry.timeouts,
        access: match &entry.access {
            snapshot::Access::Keys(ids) => Access::Keys(ids.iter().cloned().collect()),
            snapshot::Access::AnyKey => Access::AnyKey,
            snapshot::Access::Open => Access::Open,
        },
        jwt: entry
            .jwt
            .as_ref()
            .map(|jwt| Trust::compile(&id, jwt, lasting))
            .transpose()?,
        session: entry.session.clone(),
        when: condition(&id, entry.when.as_deref())?,
        queue: entry
            .queue
            .as_ref()
            .map(|settings| lasting.queues.queue(&id, settings)),
        turns: entry.queue.clone(),
        cold_start: entry.cold_start_millis.map(Duration::from_millis),
        hedging: entry
            .hedging
            .map(|settings| lasting.endpoints.hedging(&id, settings)),
        budget: lasting.endpoints.budget(&id),
        rules: limits::rules(&id, &entry.limits, &entry.budgets, &lasting.meters),
        cache: cache(&id, entry, lasting)?,
        guards: guards(&id, entry)?,
        prompts: Prompts::compile(entry.prompts.as_deref()),
        mcp: entry
            .mcp
            .as_ref()
            .map(|mcp| ToolServers::compile(&id, mcp))
            .transpose()?,
        a2a: entry
            .a2a
            .as_ref()
            .map(|a2a| Agents::compile(&id, a2a))
            .transpose()?,
        id,
    })
}

/// The mirror of a route, which is a route of its own.
fn mirror(entry: &RouteEntry, lasting: &Lasting) -> Result<Option<Arc<Mirror>>, InvalidSnapshot> {
    let Some(settings) = &entry.mirror else {
        return Ok(None);
    };
    let route = compile_route(&mirror::entry(entry, settings), lasting)?;
    let mirror = Mirror::new(route, settings.percent);
    Ok(Some(Arc::new(mirror)))
}

/// The condition of a route, or of a target.
fn condition(of: &str, source: Option<&str>) -> Result<Option<Condition>, InvalidSnapshot> {
    let compiled = source.map(Condition::compile).transpose();
    compiled.map_err(|reason| InvalidSnapshot::Condition {
        of: of.to_owned(),
        reason,
    })
}

impl Route {
    /// Whether a target has a replica.
    pub(crate) fn has_replica(&self) -> bool {
        self.targets.iter().any(|target| !target.is_cold())
    }

    /// Whether it, or a target of it, has a condition.
    fn has_conditions(&self) -> bool {
        self.when.is_some() || self.targets.iter().any(|target| target.when.is_some())
    }
}

fn cache(
    route: &str,
    entry: &RouteEntry,
    lasting: &Lasting,
) -> Result<Option<Arc<Cache>>, InvalidSnapshot> {
    let settings = entry.cache.as_ref();
    let cache = settings.map(|settings| lasting.caches.cache(route, settings));
    cache
        .transpose()
        .map_err(|reason| InvalidSnapshot::CacheStore {
            route: route.to_owned(),
            reason,
        })
}

fn guards(route: &str, entry: &RouteEntry) -> Result<Option<Arc<Guards>>, InvalidSnapshot> {
    let compiled = Guards::compile(&entry.guards);
    let compiled = compiled.map_err(|(guard, reason)| InvalidSnapshot::Guard {
        route: route.to_owned(),
        guard,
        reason,
    });
    Ok(compiled?.map(Arc::new))
}
