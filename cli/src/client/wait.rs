//! Waiting for objects, by watching them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, ResourceExt,
    core::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;

use super::{Cluster, apply, dynamic_api, resolve};

/// How an object stands: its `Ready` (or `Available`) condition, as of its present generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether it is ready.
    pub(crate) is_ready: bool,
    /// The condition's reason.
    pub(crate) reason: String,
    /// The condition's message.
    pub(crate) message: String,
}

/// Reads how an object stands.
pub(crate) fn standing(object: &DynamicObject) -> Standing {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let generation = object.metadata.generation.unwrap_or_default();
    let conditions = object.data["status"]["conditions"].as_array();
    let named = |name: &str| {
        conditions?
            .iter()
            .find(|condition| condition["type"] == name)
    };
    let Some(condition) = named("Ready").or_else(|| named("Available")) else {
        return Standing::default();
    };
    let seen = condition["observedGeneration"]
        .as_i64()
        .or_else(|| object.data["status"]["observedGeneration"].as_i64());
    Standing {
        is_ready: condition["status"] == "True" && seen.is_none_or(|seen| generation <= seen),
        reason: text(condition, "reason"),
        message: text(condition, "message"),
    }
}

impl Cluster {
    /// Watches an object until it is ready, telling each change to `observe`.
    pub(crate) async fn wait_ready(
        &self,
        object: &DynamicObject,
        limit: Duration,
        mut observe: impl FnMut(&DynamicObject, &Standing),
    ) -> Result<DynamicObject> {
        let name = apply::display(object);
        let discovery = self.discover().await?;
        let (resource, capabilities) = resolve(&discovery, &apply::kind_of(object)?)?;
        let namespace = object.namespace().unwrap_or_default();
        let api = dynamic_api(self.client.clone(), &resource, &capabilities, &namespace);
        let mut last = Standing::default();
        let waiting = async {
            let config =
                watcher::Config::default().fields(&format!("metadata.name={}", object.name_any()));
            let mut stream = watcher(api, config)
                .default_backoff()
                .applied_objects()
                .boxed();
            while let Some(object) = stream.try_next().await? {
                let standing = standing(&object);
                observe(&object, &standing);
                last = standing;
                if last.is_ready {
                    return Ok(Some(object));
                }
            }
            Ok::<_, watcher::Error>(None)
        };
        match tokio::time::timeout(limit, waiting).await {
            Ok(Ok(Some(object))) => Ok(object),
            Ok(Ok(None)) => bail!("the watch of {name} ended"),
            Ok(Err(error)) => Err(error).with_context(|| format!("watching {name}")),
            Err(_) if last.reason.is_empty() => {
                bail!("{name} has no status after {limit:?}; is the operator running?")
            }
            Err(_) => bail!(
                "{name} is not ready after {limit:?}: {}: {}",
                last.reason,
                last.message
            ),
        }
    }

    /// Waits for the Deployments of a namespace.
    pub(crate) async fn wait_deployment(
        &self,
        namespace: &str,
        name: &str,
        limit: Duration,
    ) -> Result<()> {
        use k8s_openapi::api::apps::v1::Deployment;
        use kube::runtime::wait::await_condition;
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let is_available = |deployment: Option<&Deployment>| {
            deployment
                .and_then(|deployment| deployment.status.as_ref())
                .is_some_and(|status| status.available_replicas.unwrap_or_default() >= 1)
        };
        let waiting = await_condition(api, name, is_available);
        tokio::time::timeout(limit, waiting)
            .await
            .with_context(|| {
                format!("deployment/{name} is not available after {limit:?}; see its Pods' logs")
            })?
            .with_context(|| format!("watching deployment/{name}"))?;
        Ok(())
    }
}
