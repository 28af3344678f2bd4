//! The only place that writes: server-side apply, deletes with preconditions, statuses, events.
//!
//! Every write asks the lease first. A child that is already as wanted is not written, so a steady state writes nothing.

mod drift;
mod events;
pub(crate) mod lease;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use crds::names::FIELD_MANAGER;
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use thiserror::Error;

pub(crate) use self::drift::is_as_wanted;
use self::{drift::Fingerprint, events::Announcer, lease::Leadership};

/// Children whose last write is remembered.
const REMEMBERED_MAX: usize = 100_000;

/// Why a write did not happen.
#[derive(Debug, Error)]
pub(crate) enum ExecuteError {
    #[error("not the leader")]
    NotLeader,
    #[error("{kind} `{name}` exists and belongs to somebody else")]
    NotOurs { kind: String, name: String },
    #[error("the API server refuses {kind} `{name}`: {message}")]
    Refused {
        kind: String,
        name: String,
        message: String,
    },
    #[error("{kind} `{name}` changed since it was read")]
    Stale { kind: String, name: String },
    #[error("writing {kind} `{name}`")]
    Api {
        kind: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// A kind in a namespace that can be a child.
pub(crate) trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
{
}

/// Carries plans out.
#[derive(Clone)]
pub(crate) struct Executor {
    client: Client,
    leadership: Leadership,
    announcer: Announcer,
    written: Arc<Mutex<HashMap<String, Fingerprint>>>,
}

impl Executor {
    pub(crate) fn new(client: Client, leadership: Leadership, identity: &str) -> Self {
        Self {
            announcer: Announcer::new(client.clone(), identity),
            client,
            leadership,
            written: Arc::default(),
        }
    }

    /// Makes a child as wanted; `current` is what the cache has.
    pub(crate) async fn apply<K: Child>(
        &self,
        desired: &K,
        current: Option<&K>,
    ) -> Result<(), ExecuteError> {
        let target = Target::of(desired);
        let wanted = value(desired);
        if let Some(current) = current {
            target.check_owner(desired, current)?;
            let remembered = self.written.lock().get(&target.id).cloned();
            if is_as_wanted(&wanted, &value(current), remembered.as_ref()) {
                return Ok(());
            }
        } else if let Some(existing) = self.read::<K>(&target).await? {
            target.check_owner(desired, &existing)?;
        }
        self.ask_lease()?;
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let mut body = wanted.clone();
        stamp_type::<K>(&mut body);
        let result = self
            .api::<K>(&target)
            .patch(&target.name, &parameters, &Patch::Apply(&body))
            .await;
        let written = result.map_err(|error| target.fault(error))?;
        tracing::info!(kind = %target.kind, namespace = %target.namespace, name = %target.name, "applied");
        self.remember(target.id, Fingerprint::new(&wanted, &value(&written)));
        Ok(())
    }

    /// Makes a child that is never changed afterwards, as a Pod.
    pub(crate) async fn create<K: Child>(&self, desired: &K) -> Result<(), ExecuteError> {
        let target = Target::of(desired);
        self.ask_lease()?;
        let mut body = value(desired);
        stamp_type::<K>(&mut body);
        let parsed: K = serde_json::from_value(body).unwrap_or_else(|_| desired.clone());
        match self
            .api::<K>(&target)
            .create(
                &kube::api::PostParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..Default::default()
                },
                &parsed,
            )
            .await
        {
            Ok(_) => {
                tracing::info!(kind = %target.kind, namespace = %target.namespace, name = %target.name, "created");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let Some(existing) = self.read::<K>(&target).await? else {
                    return Err(target.stale());
                };
                target.check_owner(desired, &existing)
            }
            Err(error) => Err(target.fault(error)),
        }
    }

    /// Deletes exactly the object that was read.
    pub(crate) async fn delete<K: Child>(&self, object: &K) -> Result<(), ExecuteError> {
        let target = Target::of(object);
        if object.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        self.ask_lease()?;
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: object.uid(),
            resource_version: None,
        });
        match self
            .api::<K>(&target)
            .delete(&target.name, &parameters)
            .await
        {
            Ok(_) => {
                tracing::info!(kind = %target.kind, namespace = %target.namespace, name = %target.name, "deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(target.fault(error)),
        }
    }

    /// Writes the status of the object that was read; a newer object refuses it.
    pub(crate) async fn write_status<K: Child>(
        &self,
        object: &K,
        status: &impl Serialize,
    ) -> Result<(), ExecuteError> {
        let target = Target::of(object);
        self.ask_lease()?;
        let mut body = json!({
            "metadata": {"name": target.name, "namespace": target.namespace, "resourceVersion": object.resource_version()},
            "status": value(status),
        });
        stamp_type::<K>(&mut body);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match self
            .api::<K>(&target)
            .patch_status(&target.name, &parameters, &Patch::Apply(&body))
            .await
        {
            Ok(_) => Ok(()),
            // The object is gone, or a newer one is on its way through the watch.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(target.fault(error)),
        }
    }

    /// Reads an object that the cache may not have yet.
    pub(crate) async fn live<K: Child>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ExecuteError> {
        self.read(&Target::named::<K>(namespace, name)).await
    }

    /// The events of what happens to objects.
    pub(crate) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    fn ask_lease(&self) -> Result<(), ExecuteError> {
        if self.leadership.is_held() {
            Ok(())
        } else {
            Err(ExecuteError::NotLeader)
        }
    }

    async fn read<K: Child>(&self, target: &Target) -> Result<Option<K>, ExecuteError> {
        self.api::<K>(target)
            .get_opt(&target.name)
            .await
            .map_err(|error| target.fault(error))
    }

    fn api<K: Child>(&self, target: &Target) -> Api<K> {
        Api::namespaced(self.client.clone(), &target.namespace)
    }

    fn remember(&self, id: String, fingerprint: Fingerprint) {
        let mut written = self.written.lock();
        if REMEMBERED_MAX <= written.len() {
            // What is forgotten is compared by its fields, at worst written once more.
            written.clear();
        }
        written.insert(id, fingerprint);
    }
}

/// What a write is about.
struct Target {
    kind: String,
    namespace: String,
    name: String,
    id: String,
}

impl Target {
    fn of<K: Child>(object: &K) -> Self {
        Self::named::<K>(&object.namespace().unwrap_or_default(), &object.name_any())
    }

    fn named<K: Child>(namespace: &str, name: &str) -> Self {
        let kind = K::kind(&()).into_owned();
        Self {
            id: format!("{kind}/{namespace}/{name}"),
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn check_owner<K: Child>(&self, desired: &K, current: &K) -> Result<(), ExecuteError> {
        let controller = |owners: &[OwnerReference]| {
            owners
                .iter()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| owner.uid.clone())
        };
        if controller(desired.owner_references()) == controller(current.owner_references()) {
            return Ok(());
        }
        Err(ExecuteError::NotOurs {
            kind: self.kind.clone(),
            name: self.name.clone(),
        })
    }

    fn stale(&self) -> ExecuteError {
        ExecuteError::Stale {
            kind: self.kind.clone(),
            name: self.name.clone(),
        }
    }

    /// What the caller can do about an answer of the API server.
    fn fault(&self, error: kube::Error) -> ExecuteError {
        let (kind, name) = (self.kind.clone(), self.name.clone());
        match &error {
            kube::Error::Api(status) if status.is_conflict() => ExecuteError::Stale { kind, name },
            kube::Error::Api(status)
                if status.is_invalid() || status.is_forbidden() || status.code == 400 =>
            {
                let message = status.message.clone();
                ExecuteError::Refused {
                    kind,
                    name,
                    message,
                }
            }
            _ => ExecuteError::Api {
                kind,
                name,
                source: Box::new(error),
            },
        }
    }
}

/// An object as JSON; our objects always are.
fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn stamp_type<K: Child>(body: &mut Value) {
    if let Some(map) = body.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(K::api_version(&())));
        map.insert("kind".to_owned(), json!(K::kind(&())));
    }
}

/// The reference to the owner that makes a child go when the owner goes.
pub(crate) fn owned_by<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
