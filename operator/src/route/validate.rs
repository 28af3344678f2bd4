//! What a Route wants, checked.

use std::time::Duration;

use crds::{
    Route,
    condition::Reason,
    route::{self, Affinity, Auth, Backend, Mirror, Strategy},
};
use jiff::Timestamp;
use protocol::{
    routing::{Fallback, Hedging, Queue, Session},
    snapshot::{
        A2a, Access, Adapter, Batches, Budget, Cache, Guard, Jwt, KvEvents, Limit,
        MIRROR_TIMEOUT_MILLIS, Mcp, Prices, PromptCache, Prompts, TargetLimits,
    },
};
use thiserror::Error;

use super::{
    batches, cache,
    dereference::{FoundModel, World},
    guards, jwt, limits, pools, prompts, resilience, tools,
};
use crate::{
    model::{self, BadCredential, ExternalEngine, ValidEngine},
    quantities::duration,
    queue::Key,
};

/// The name of the mirror's target.
const MIRROR: &str = "mirror";

/// Why a Route is not used at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidRoute {
    #[error("{path} is `{value}`; write a duration of at most 168h, as 90s")]
    Duration { path: &'static str, value: String },
    #[error(
        "{path} is `{value}`; write US dollars with at most nine decimals and below ten thousand million, as 0.25"
    )]
    Dollars { path: String, value: String },
    #[error("{path} is `{value}`, which is no CEL expression: {reason}")]
    Condition {
        path: String,
        value: String,
        reason: String,
    },
    #[error("{path} is `{value}`; write a duration of at least 1ms and at most 168h, as 1m")]
    Window { path: String, value: String },
    #[error("{path} cannot be used: {reason}")]
    Pattern { path: String, reason: String },
    #[error("{path} is missing; it says whom the guard asks")]
    NoWebhook { path: String },
    #[error("{path} is `{value}`; write a duration of at least 1ms and at most 30s, as 2s")]
    WebhookTimeout { path: String, value: String },
    #[error(transparent)]
    Credential(#[from] BadCredential),
    #[error("{path} is `{url}`; no request may go to metadata services and link-local addresses")]
    Address { path: String, url: String },
    #[error(
        "the Route `{route}` came first and answers `{pattern}`; remove the pattern from one of the two"
    )]
    Conflict { pattern: String, route: String },
    #[error(
        "the Route `{route}` came first and says something else of this issuer and audience; say the same in spec.auth.jwt but for teams"
    )]
    Contradicted { route: String },
}

impl InvalidRoute {
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Duration { .. }
            | Self::Dollars { .. }
            | Self::Window { .. }
            | Self::Condition { .. }
            | Self::Pattern { .. }
            | Self::NoWebhook { .. }
            | Self::WebhookTimeout { .. }
            | Self::Address { .. } => Reason::Invalid,
            Self::Conflict { .. } | Self::Contradicted { .. } => Reason::Conflict,
            Self::Credential(bad) => bad.reason(),
        }
    }
}

/// A Route that can be used, as far as its references exist.
#[derive(Debug, Clone)]
pub(crate) struct ValidRoute {
    pub(super) key: Key,
    pub(super) generation: i64,
    pub(super) created: Timestamp,
    pub(super) patterns: Vec<String>,
    pub(super) strategy: Strategy,
    pub(super) affinity: Affinity,
    pub(super) backends: Vec<ValidBackend>,
    pub(super) attempts: u32,
    pub(super) backoff: Duration,
    pub(super) request: Duration,
    pub(super) connect: Duration,
    pub(super) first_token: Duration,
    pub(super) stream_idle: Duration,
    pub(super) access: Access,
    pub(super) jwt: Option<Jwt>,
    pub(super) limits: Vec<Limit>,
    pub(super) budgets: Vec<Budget>,
    pub(super) cache: Option<Cache>,
    pub(super) guards: Vec<Guard>,
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) mirror: Option<ValidMirror>,
    pub(super) hedging: Option<Hedging>,
    pub(super) queue: Option<Queue>,
    pub(super) cold_start_millis: Option<u64>,
    pub(super) session: Option<Session>,
    pub(super) when: Option<String>,
    pub(super) mcp: Option<Mcp>,
    pub(super) a2a: Option<A2a>,
    pub(super) prompts: Option<Box<Prompts>>,
    /// What is named and cannot be used, and why.
    pub(super) unresolved: Vec<(Reason, String)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ValidBackend {
    pub(super) name: String,
    /// The model's name there; empty for the one that the client asked for.
    pub(super) model: String,
    /// The InferencePool whose Pods the endpoints are, if they are.
    pub(super) pool: Option<String>,
    pub(super) endpoints: Vec<String>,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) when: Option<String>,
    /// Who answers, if not our engine.
    pub(super) provider: Option<Box<ExternalEngine>>,
    pub(super) prices: Option<Prices>,
    /// The Model, as `NAMESPACE/NAME`, if it has all its engines only while requests come.
    pub(super) on_demand: Option<String>,
    pub(super) adapters: Vec<Adapter>,
    pub(super) prompt_cache: PromptCache,
    pub(super) batches: Batches,
    pub(super) kv_events: Option<KvEvents>,
    pub(super) limits: Option<TargetLimits>,
}

/// Where copies of a share of the requests go.
#[derive(Debug, Clone)]
pub(super) struct ValidMirror {
    pub(super) backend: ValidBackend,
    pub(super) percent: u32,
    pub(super) timeout: Duration,
}

/// Checks a Route.
pub(super) fn validate(route: &Route, world: &World) -> Result<ValidRoute, InvalidRoute> {
    let spec = &route.spec;
    if let Some((pattern, other)) = world.claimed.iter().next() {
        return Err(InvalidRoute::Conflict {
            pattern: pattern.clone(),
            route: other.clone(),
        });
    }
    let mut unresolved = Vec::new();
    let mut backends = Vec::new();
    for (index, backend) in spec.targets.backends.iter().enumerate() {
        let prices = limits::prices(
            &format!("spec.targets.backends[{index}].prices"),
            backend.prices.as_ref(),
        )?;
        let path = || format!("spec.targets.backends[{index}].when");
        resilience::condition(path, backend.when.as_ref())?;
        let limits = limits::of_backend(
            &format!("spec.targets.backends[{index}].limits"),
            backend.limits.as_ref(),
        )?;
        match resolve(index, backend, prices, world) {
            Ok(backend) => backends.push(ValidBackend { limits, ..backend }),
            Err(fault) => unresolved.push(fault),
        }
    }
    let mirror = mirror(spec.mirror.as_ref(), world, &mut unresolved)?;
    let mcp = tools::mcp(spec.mcp.as_ref(), world, &mut unresolved)?;
    let a2a = tools::a2a(spec.a2a.as_ref(), world, &mut unresolved)?;
    let cache = cache::cache(spec.cache.as_ref(), world, &mut unresolved)?;
    let prompts = prompts::prompts(spec.prompts.as_ref(), world, &mut unresolved);
    Ok(ValidRoute {
        mirror,
        mcp,
        a2a,
        prompts,
        key: Key::of(route),
        generation: route.metadata.generation.unwrap_or(0),
        created: route
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |created| created.0),
        patterns: spec.r#match.models.clone(),
        strategy: spec.targets.strategy,
        affinity: spec.targets.affinity,
        backends,
        attempts: spec.retries.attempts,
        backoff: parse("spec.retries.backoff", &spec.retries.backoff)?,
        request: parse("spec.timeouts.request", &spec.timeouts.request)?,
        connect: parse("spec.timeouts.connect", &spec.timeouts.connect)?,
        first_token: parse("spec.timeouts.firstToken", &spec.timeouts.first_token)?,
        stream_idle: parse("spec.timeouts.streamIdle", &spec.timeouts.stream_idle)?,
        access: access(spec.auth.as_ref(), world),
        jwt: jwt::jwt(spec.auth.as_ref(), world)?,
        limits: limits::limits(&spec.limits)?,
        budgets: limits::budgets(&spec.budgets)?,
        cache,
        guards: guards::guards(&spec.guards, world)?,
        fallbacks: resilience::fallbacks(&spec.fallbacks),
        queue: resilience::queue(spec.queue.as_ref())?,
        cold_start_millis: resilience::cold_start(spec.cold_start.as_ref())?,
        hedging: resilience::hedging(spec.retries.hedging.as_ref())?,
        session: resilience::session(spec.targets.session.as_ref()),
        when: resilience::condition(|| "spec.match.when".to_owned(), spec.r#match.when.as_ref())?,
        unresolved,
    })
}

fn parse(path: &'static str, value: &str) -> Result<Duration, InvalidRoute> {
    duration(value).ok_or_else(|| InvalidRoute::Duration {
        path,
        value: value.to_owned(),
    })
}

/// A backend whose Model, or whose InferencePool, can be used.
fn resolve(
    index: usize,
    backend: &Backend,
    prices: Option<Prices>,
    world: &World,
) -> Result<ValidBackend, (Reason, String)> {
    let path = format!("spec.targets.backends[{index}]");
    let (path, engine) = match (&backend.model_ref, &backend.inference_pool_ref) {
        (Some(model), _) => {
            let path = format!("{path}.modelRef");
            let engine = engine(&path, &model.name, world)?;
            (path, engine)
        }
        (None, Some(pool)) => {
            let path = format!("{path}.inferencePoolRef");
            let engine = pools::engine(&path, &pool.name, &backend.adapters, world)?;
            (path, engine)
        }
        // The definition's rules let no such backend pass.
        (None, None) => {
            let message = format!("{path} names neither a Model nor an InferencePool");
            return Err((Reason::RefNotFound, message));
        }
    };
    let engine = renamed(&path, engine, backend.model_override.as_ref())?;
    Ok(ValidBackend {
        name: backend.name.clone(),
        weight: backend.weight.unwrap_or(1),
        priority: backend.priority.unwrap_or(0),
        when: backend.when.clone(),
        prices,
        prompt_cache: match backend.prompt_cache {
            Some(route::PromptCache::Automatic) => PromptCache::Automatic,
            Some(route::PromptCache::Client) | None => PromptCache::Client,
        },
        batches: batches::batches(index, backend, &engine)?,
        ..engine
    })
}

/// The mirror, unless its Model cannot be used, which is noted.
fn mirror(
    wanted: Option<&Mirror>,
    world: &World,
    unresolved: &mut Vec<(Reason, String)>,
) -> Result<Option<ValidMirror>, InvalidRoute> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let prices = limits::prices("spec.mirror.prices", wanted.prices.as_ref())?;
    let timeout = wanted.timeout.as_deref();
    let timeout = timeout.map(|timeout| parse("spec.mirror.timeout", timeout));
    let timeout = timeout.transpose()?;
    let path = "spec.mirror.modelRef";
    let engine = engine(path, &wanted.model_ref.name, world);
    match engine.and_then(|engine| renamed(path, engine, wanted.model_override.as_ref())) {
        Ok(engine) => Ok(Some(ValidMirror {
            backend: ValidBackend {
                name: MIRROR.to_owned(),
                prices,
                ..engine
            },
            percent: wanted.percent,
            timeout: timeout.unwrap_or(Duration::from_millis(MIRROR_TIMEOUT_MILLIS)),
        })),
        Err(fault) => {
            unresolved.push(fault);
            Ok(None)
        }
    }
}

/// A Model that a path of the Route names, as a backend that nothing was said of.
fn engine(path: &str, name: &str, world: &World) -> Result<ValidBackend, (Reason, String)> {
    let found: Option<&FoundModel> = world.models.get(name).and_then(Option::as_ref);
    let Some(found) = found else {
        let message =
            format!("{path} names the Model `{name}`, which does not exist in this namespace");
        return Err((Reason::RefNotFound, message));
    };
    let valid = model::validate(&found.model, &found.secrets).map_err(|fault| {
        let message = format!("{path} names the Model `{name}`, which is not usable: {fault}");
        (Reason::RefNotFound, message)
    })?;
    let Key { namespace, name } = &valid.key;
    let on_demand = match &valid.engine {
        ValidEngine::Native(engine) if engine.scaling.is_some() => {
            Some(format!("{namespace}/{name}"))
        }
        ValidEngine::Native(_) | ValidEngine::External(_) => None,
    };
    let kv_events = match &valid.engine {
        ValidEngine::Native(engine) => engine.native.kv_events.then_some(KvEvents::Http),
        ValidEngine::External(_) => None,
    };
    let (model, endpoints, provider, adapters) = match valid.engine {
        ValidEngine::Native(engine) => {
            let adapters = engine.adapters.iter();
            let adapters = adapters.map(|adapter| native_adapter(&valid.served_name, adapter));
            let adapters = adapters.collect();
            (valid.served_name, found.endpoints.clone(), None, adapters)
        }
        ValidEngine::External(engine) => (
            engine.model.clone(),
            vec![engine.base_url.clone()],
            Some(engine.clone()),
            engine.adapters,
        ),
    };
    Ok(ValidBackend {
        model,
        endpoints,
        weight: 1,
        provider,
        on_demand,
        adapters,
        kv_events,
        ..ValidBackend::default()
    })
}

/// An adapter that our engine has from its start.
fn native_adapter(served_name: &str, adapter: &crds::model::Adapter) -> Adapter {
    Adapter {
        name: adapter.name.clone(),
        model: format!("{served_name}:{}", adapter.name),
        path: None,
    }
}

/// A backend whose model has another name in requests, which is the name of the one thing that it is asked for, or with
/// a star the way to the name of each that it has.
fn renamed(
    path: &str,
    engine: ValidBackend,
    model: Option<&String>,
) -> Result<ValidBackend, (Reason, String)> {
    let renamed = match model {
        None => engine,
        Some(model) => ValidBackend {
            model: model.clone(),
            adapters: Vec::new(),
            ..engine
        },
    };
    let model = &renamed.model;
    if 1 < model.matches('*').count() {
        let message = format!(
            "{path}: the model is called `{model}` there, with more than one `*`; only one can be filled in"
        );
        return Err((Reason::Invalid, message));
    }
    Ok(renamed)
}

fn access(auth: Option<&Auth>, world: &World) -> Access {
    let Some(auth) = auth else {
        return Access::AnyKey;
    };
    if auth.anonymous {
        return Access::Open;
    }
    let Some(keys) = &auth.api_keys else {
        return Access::AnyKey;
    };
    let is_selected = |labels: &std::collections::BTreeMap<String, String>| {
        keys.selector
            .match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    };
    let allowed = world
        .keys
        .iter()
        .filter(|key| is_selected(&key.labels) || (auth.agents && key.is_agent));
    let mut ids: Vec<String> = allowed.map(|key| key.id.clone()).collect();
    ids.sort();
    Access::Keys(ids)
}
