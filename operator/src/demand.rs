//! What gateways want: noted in the status of each Model that has its engines only while requests come.
//!
//! Gateways report to whichever replica of the operator they reach, and only the leader scales. The status is where all
//! replicas meet, and what a restart finds again; so this is the one write that asks for no lease. It is of one field, by
//! a manager of its own, and says the same whoever writes it.

use crds::Model;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::reflector::Store,
};
use protocol::demand::{Demand, MODELS_MAX};
use serde_json::json;

use crate::{model::ValidScaling, queue::Key};

/// The field manager of the one field.
const FIELD_MANAGER: &str = "quarterdeck-demand";
/// Statuses that are written at once for one report.
const WRITES_MAX: usize = 8;

/// Notes what is wanted.
#[derive(Clone)]
pub(crate) struct Notes {
    client: Client,
    models: Store<Model>,
}

impl Notes {
    pub(crate) const fn new(client: Client, models: Store<Model>) -> Self {
        Self { client, models }
    }

    /// Notes a report; what is not known or does not ask for it is passed over.
    ///
    /// # Errors
    /// A status could not be written; the others may be.
    pub(crate) async fn note(&self, demand: &Demand, now: Timestamp) -> Result<(), kube::Error> {
        let named = demand.models.iter().take(MODELS_MAX);
        let due = named.filter_map(|name| self.due(name, now));
        stream::iter(due.collect::<Vec<_>>())
            .map(Ok)
            .try_for_each_concurrent(WRITES_MAX, |key| async move {
                tracing::debug!(node = %demand.node, namespace = %key.namespace, model = %key.name, "wanted");
                self.write(&key, now).await
            })
            .await
    }

    /// The Model, if it is worth noting that it is wanted.
    fn due(&self, name: &str, now: Timestamp) -> Option<Key> {
        let (namespace, name) = name.split_once('/')?;
        let key = Key::new(namespace, name);
        let model = self.models.get(&key.to_ref::<Model>())?;
        let scaling = ValidScaling::of(&model).ok().flatten()?;
        let status = model.status.as_ref();
        let noted = status.and_then(|status| status.last_wanted.as_deref());
        scaling.is_worth_noting(noted, now).then_some(key)
    }

    async fn write(&self, key: &Key, now: Timestamp) -> Result<(), kube::Error> {
        let body = json!({
            "apiVersion": Model::api_version(&()),
            "kind": Model::kind(&()),
            "metadata": {"name": key.name, "namespace": key.namespace},
            "status": {"lastWanted": now.to_string()},
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let api: Api<Model> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api
            .patch_status(&key.name, &parameters, &Patch::Apply(&body))
            .await;
        match written {
            Ok(_) => Ok(()),
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
