//! EndpointSlice controller: where the Pods of each Service listen.

mod build;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, api::PropagationPolicy};
use serde_json::json;

use self::build::{Change, MANAGED_BY, MANAGER, SERVICE_NAME, build, changes, is_affected};
use crate::{
    api::{Attempt, Next, api_beside, delete_params, merge, post_params},
    cache::{self, Cache, Key},
    worker::Reconcile,
};

/// Says where the Pods of each Service listen.
pub(crate) struct EndpointSliceController {
    /// The API server.
    pub(crate) client: Client,
    /// All Services.
    pub(crate) services: Arc<Cache<Service>>,
    /// All Pods.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// The slices that this controller wrote.
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
}

impl Reconcile for EndpointSliceController {
    type Key = Key;
    const NAME: &'static str = "endpoint-slice";

    async fn reconcile(&self, key: &Key) -> Next {
        // The slices of a Service that is gone are garbage, by their owner.
        let Some(service) = self
            .services
            .get(key)
            .filter(|found| found.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        let Some(wanted) = build(&service, &self.pods.in_namespace(&key.namespace)) else {
            return Ok(None);
        };
        let present = self
            .slices
            .filter(|slice| service_of(slice).as_ref() == Some(key));
        let api: Api<EndpointSlice> = api_beside(&self.client, &*service);
        for change in changes(wanted, present) {
            match change {
                Change::Create(slice) => {
                    api.create(&post_params(), &slice)
                        .await
                        .attempt("create an EndpointSlice")?;
                }
                Change::Update { present, wanted } => {
                    let patch = json!({
                        "metadata": {"labels": wanted.metadata.labels},
                        "endpoints": wanted.endpoints,
                        "ports": wanted.ports,
                    });
                    merge(&api, &*present, patch, "update an EndpointSlice").await?;
                }
                Change::Delete(slice) => {
                    let params =
                        delete_params(slice.metadata.uid.clone(), PropagationPolicy::Background);
                    let deleted = api
                        .delete(slice.metadata.name.as_deref().unwrap_or_default(), &params)
                        .await;
                    deleted.attempt_unless_gone("delete an EndpointSlice")?;
                }
            }
        }
        Ok(None)
    }
}

/// The Service of a slice of ours.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
        return None;
    }
    Some(Key::new(
        slice.metadata.namespace.clone().unwrap_or_default(),
        labels.get(SERVICE_NAME)?,
    ))
}

/// The Services that a Pod's change concerns.
pub(crate) fn services_of(services: &Cache<Service>, change: &cache::Change<'_, Pod>) -> Vec<Key> {
    let found = services.filter(|service| {
        change.states().any(|pod| {
            pod.metadata.namespace == service.metadata.namespace && is_affected(service, pod)
        })
    });
    found.iter().map(|service| Key::of(&**service)).collect()
}
