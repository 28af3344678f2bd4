//! Targets: a place that answers requests, compiled with its replicas and its provider.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, Uri};
use protocol::{
    key::digest,
    provider::Credential,
    snapshot::{self, Adapter, Affinity, Batches, KvEvents, Prices, RouteEntry},
};

use super::{
    InvalidSnapshot, Lasting, Pattern, condition,
    naming::{Naming, Unnamable, name_at},
};
use crate::{
    adapters,
    condition::Condition,
    credential::uri,
    demand::Wanted,
    endpoint::{Caches, Digest, Endpoint},
    limits::{self, Rule},
    metrics::TargetSeries,
    provider::Provider,
};

/// A place that answers requests.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name in the route.
    pub(crate) name: String,
    /// The model's name there, perhaps with a star; empty for the one that the client asked for.
    pub(crate) model: String,
    /// What becomes of the names that are asked for, if the target has many models.
    pub(crate) naming: Option<Naming>,
    /// Its replicas.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// What is known of their caches, if replicas are picked by it.
    pub(crate) caches: Option<Caches>,
    /// How its replicas say what changes in their caches.
    pub(crate) kv_events: Option<KvEvents>,
    /// The adapters that its engines have, or can load.
    pub(crate) adapters: Vec<Adapter>,
    /// Its share of the traffic.
    pub(crate) weight: u32,
    /// Its place in the order of failover.
    pub(crate) priority: u32,
    /// The requests that it is asked for, if not all.
    pub(crate) when: Option<Condition>,
    /// Whose API its endpoints speak, and what lets the gateway in.
    pub(crate) provider: Provider,
    /// What its tokens cost.
    pub(crate) prices: Prices,
    /// What it may be sent, whoever asks.
    pub(crate) rules: Vec<Rule>,
    /// Its Model, if that has replicas only while it is wanted.
    pub(crate) wanted: Option<Arc<Wanted>>,
    /// `NAMESPACE/ROUTE/TARGET`, which the client is told.
    pub(crate) shown: HeaderValue,
    /// Who runs the lines of batches that it gets.
    pub(crate) batches: Batches,
    /// Its series in the metrics.
    pub(crate) series: Arc<TargetSeries>,
}

impl Target {
    /// The target of a route.
    pub(super) fn compile(
        route: &str,
        target: &snapshot::Target,
        entry: &RouteEntry,
        lasting: &Lasting,
    ) -> Result<Self, InvalidSnapshot> {
        let endpoints = target
            .endpoints
            .iter()
            .map(|url| endpoint(route, target, url, lasting));
        let endpoints: Vec<Arc<Endpoint>> = endpoints.collect::<Result<_, _>>()?;
        let (namespace, _) = route.split_once('/').unwrap_or_default();
        let provider = Provider::compile(namespace, target, &lasting.identities);
        let provider = provider.map_err(|source| InvalidSnapshot::Provider {
            route: route.to_owned(),
            target: target.name.clone(),
            source,
        })?;
        let name = format!("{route}/{}", target.name);
        let caches = match entry.affinity {
            Affinity::Prefix if 1 < endpoints.len() => lasting.endpoints.caches(&name, &endpoints),
            _ => None,
        };
        Ok(Self {
            name: target.name.clone(),
            model: target.model.clone(),
            naming: Naming::of(route, &target.name, &target.model)?,
            endpoints,
            caches,
            kv_events: target.kv_events.clone(),
            adapters: target.adapters.clone(),
            weight: target.weight,
            priority: target.priority,
            when: condition(&name, target.when.as_deref())?,
            provider,
            prices: target.prices.unwrap_or_default(),
            rules: limits::of_target(route, &target.name, target.limits.as_ref(), &lasting.meters),
            wanted: target
                .on_demand
                .as_ref()
                .map(|model| lasting.demands.wanted(model)),
            // Names of resources and targets are letters, digits and hyphens.
            shown: HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("")),
            batches: target.batches,
            series: Arc::new(TargetSeries::new(entry.models.len())),
        })
    }

    /// Whether it has no replica.
    pub(crate) const fn is_cold(&self) -> bool {
        self.endpoints.is_empty()
    }
}

impl Target {
    /// The model's name there for a request that asked a route with these patterns for a name.
    ///
    /// # Errors
    /// [`Unnamable`]
    pub(crate) fn model_for(
        &self,
        patterns: &[Pattern],
        asked: &str,
    ) -> Result<Cow<'_, str>, Unnamable> {
        name_at((&self.model, self.naming.as_ref()), patterns, asked)
    }

    /// What stands for all its models: its name for its model, or a star for any.
    pub(crate) fn models(&self) -> &str {
        match self.model.as_str() {
            "" => "*",
            model => model,
        }
    }

    /// The adapter that a model's name asks for.
    pub(crate) fn adapter(&self, model: &str) -> Option<&Adapter> {
        if self.adapters.is_empty() {
            return None;
        }
        adapters::find(&self.adapters, model)
    }
}

/// The endpoint at an address that requests may go to.
fn endpoint(
    route: &str,
    target: &snapshot::Target,
    url: &str,
    lasting: &Lasting,
) -> Result<Arc<Endpoint>, InvalidSnapshot> {
    uri(route, &target.name, url)?;
    let endpoints = &lasting.endpoints;
    let endpoint = endpoints.get(url, &target.model, credential(route, target));
    endpoint.ok_or_else(|| InvalidSnapshot::Url {
        route: route.to_owned(),
        target: target.name.clone(),
        url: url.to_owned(),
    })
}

/// What tells credentials apart, and tells nobody what they are.
fn credential(route: &str, target: &snapshot::Target) -> Option<Digest> {
    if target.credential.is_none() && target.headers.is_empty() {
        return None;
    }
    // What the gateway itself is may be refused to one namespace, which says nothing of the same endpoint for another.
    let namespace = matches!(&target.credential, Some(Credential::Workload { .. }))
        .then(|| route.split_once('/').unwrap_or_default().0);
    let text = serde_json::to_string(&(&target.credential, &target.headers, namespace));
    text.ok().map(|text| digest(&text))
}

/// Whether requests can be sent to a URL.
pub(crate) fn is_http(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
}
