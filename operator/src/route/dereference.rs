//! What a Route names: Models and their addresses, keys, and the Routes that claim the same names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::{
    Model, Route,
    names::{AGENT_LABEL, COMPONENT_LABEL},
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use super::{cache, guards, jwt, prompts, tools};
use crate::{
    caches::{Caches, SERVICE_NAME_LABEL},
    inference_pool::InferencePool,
    model::{self, ENGINE_PORT},
    pods,
    queue::Key,
    snapshots::{has_key_label, key_id},
};

/// What there is around a Route.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The Models that backends name, by name; none for those that do not exist.
    pub(super) models: BTreeMap<String, Option<FoundModel>>,
    /// The InferencePools that backends name, by name; none for those that do not exist.
    pub(super) pools: BTreeMap<String, Option<FoundPool>>,
    /// Routes that came first and claim one of the same patterns: pattern to the Route's `namespace/name`.
    pub(super) claimed: BTreeMap<String, String>,
    /// The Route that came first and says something else of the same issuer and audience of tokens, `namespace/name`.
    pub(super) contradicted: Option<String>,
    /// The Secrets that tool servers and agents name; none for those that do not exist.
    pub(super) secrets: model::Secrets,
    /// The ConfigMaps that prompts name, with the label of prompts; none for those that do not exist.
    pub(super) config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    /// Keys of the namespace: id and labels.
    pub(super) keys: Vec<FoundKey>,
}

#[derive(Debug, Clone)]
pub(super) struct FoundModel {
    pub(super) model: Arc<Model>,
    pub(super) secrets: model::Secrets,
    /// Base URLs of ready engines.
    pub(super) endpoints: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct FoundPool {
    pub(super) pool: Arc<InferencePool>,
    /// Base URLs of ready Pods.
    pub(super) endpoints: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct FoundKey {
    pub(super) id: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) is_agent: bool,
}

pub(super) fn dereference(route: &Route, caches: &Caches) -> World {
    let namespace = route.namespace().unwrap_or_default();
    let backends = route.spec.targets.backends.iter();
    let mirror = route.spec.mirror.iter().map(|mirror| &mirror.model_ref);
    let references = backends.filter_map(|backend| backend.model_ref.as_ref());
    let references = references.chain(mirror);
    let names = references.map(|reference| reference.name.clone());
    let models = names.collect::<BTreeSet<_>>().into_iter().map(|name| {
        let model = Caches::get(&caches.models, &namespace, &name);
        let found = model.map(|model| FoundModel {
            secrets: model::secrets(&model, caches),
            endpoints: endpoints(caches, &namespace, &name),
            model,
        });
        (name, found)
    });
    let secrets = tools::secret_names(&route.spec).into_iter();
    let secrets = secrets.chain(guards::secret_names(&route.spec.guards));
    let secrets = secrets.chain(cache::secret_name(&route.spec));
    let secrets = secrets.map(|name| {
        let data = caches.secret_data(&namespace, &name);
        (name, data)
    });
    let config_maps = prompts::config_map_names(&route.spec).into_iter();
    let config_maps = config_maps.map(|name| {
        let found = Caches::get(&caches.prompts, &namespace, &name);
        let data = found.map(|found| found.data.clone().unwrap_or_default());
        (name, data)
    });
    World {
        config_maps: config_maps.collect(),
        secrets: secrets.collect(),
        models: models.collect(),
        pools: pools(route, caches, &namespace),
        claimed: claimed(route, &caches.routes.state()),
        contradicted: jwt::contradicted(route, &caches.routes.state()),
        keys: keys(caches, &namespace),
    }
}

/// The InferencePools that backends name, with what their Pods answer at.
fn pools(route: &Route, caches: &Caches, namespace: &str) -> BTreeMap<String, Option<FoundPool>> {
    let backends = route.spec.targets.backends.iter();
    let references = backends.filter_map(|backend| backend.inference_pool_ref.as_ref());
    let found = references.map(|reference| {
        let pool = Caches::get(&caches.pools, namespace, &reference.name);
        let found = pool.map(|pool| {
            let pods = caches.pool_pods.of(namespace);
            FoundPool {
                endpoints: pool.spec.endpoints(pods.iter().map(|pod| &**pod)),
                pool,
            }
        });
        (reference.name.clone(), found)
    });
    found.collect()
}

/// The patterns of a Route that another one claimed first: the older one, then the first by name.
pub(super) fn claimed(route: &Route, others: &[Arc<Route>]) -> BTreeMap<String, String> {
    let age = |route: &Route| (route.metadata.creation_timestamp.clone(), Key::of(route));
    let ours = age(route);
    let mut claimed = BTreeMap::new();
    let earlier = others
        .iter()
        .filter(|other| other.metadata.uid != route.metadata.uid && age(other) < ours);
    for other in earlier {
        for pattern in other
            .spec
            .r#match
            .models
            .iter()
            .filter(|pattern| route.spec.r#match.models.contains(pattern))
        {
            let Key { namespace, name } = Key::of(&**other);
            claimed.insert(pattern.clone(), format!("{namespace}/{name}"));
        }
    }
    claimed
}

fn keys(caches: &Caches, namespace: &str) -> Vec<FoundKey> {
    let secrets = caches.secrets.state_filter(|secret| {
        has_key_label(secret) && secret.namespace().as_deref() == Some(namespace)
    });
    let found = secrets.iter().map(|secret| FoundKey {
        id: key_id(secret),
        labels: secret.labels().clone(),
        is_agent: secret.labels().contains_key(AGENT_LABEL),
    });
    found.collect()
}

/// The base URLs of a Model's ready engines.
fn endpoints(caches: &Caches, namespace: &str, service: &str) -> Vec<String> {
    let slices = caches.slices.state_filter(|slice| {
        slice.namespace().as_deref() == Some(namespace)
            && slice
                .labels()
                .get(SERVICE_NAME_LABEL)
                .is_some_and(|name| name == service)
    });
    let urls: BTreeSet<String> = slices.iter().flat_map(|slice| urls(slice)).collect();
    urls.into_iter().collect()
}

fn urls(slice: &EndpointSlice) -> Vec<String> {
    let port = slice
        .ports
        .iter()
        .flatten()
        .find_map(|port| port.port)
        .unwrap_or_else(|| i32::from(ENGINE_PORT));
    // Conditions that are not given count as ready.
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        endpoint
            .conditions
            .as_ref()
            .is_none_or(|conditions| conditions.ready.unwrap_or(true))
    });
    ready
        .flat_map(|endpoint| &endpoint.addresses)
        .map(|address| {
            if address.contains(':') {
                format!("http://[{address}]:{port}/v1")
            } else {
                format!("http://{address}:{port}/v1")
            }
        })
        .collect()
}

/// Names of the ready Pods of a data plane.
pub(crate) fn ready_replicas(caches: &Caches, component: &str) -> Vec<String> {
    let is_ready = |pod: &k8s_openapi::api::core::v1::Pod| {
        pods::is_ready(pod)
            && pod
                .labels()
                .get(COMPONENT_LABEL)
                .is_some_and(|label| label == component)
    };
    let mut names: Vec<String> = caches
        .planes
        .state_filter(is_ready)
        .iter()
        .map(|pod| pod.name_any())
        .collect();
    names.sort();
    names
}
