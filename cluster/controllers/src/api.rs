//! Calls to the API server: who we are, what can go wrong, and writes that only happen on change.

use std::{fmt::Debug, io, time::Duration};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use thiserror::Error;

/// The field manager of every write of ours.
const FIELD_MANAGER: &str = "quarterdeck-controllers";

/// What one reconcile can fail with; both are retried with back-off.
#[derive(Debug, Error)]
pub(crate) enum ReconcileError {
    /// Our view is older than the object: the cache catches up within milliseconds.
    #[error("{attempt}: the object changed since it was read")]
    Stale {
        /// What was attempted.
        attempt: &'static str,
    },
    /// The API server refused or could not be reached.
    #[error("{attempt}")]
    Api {
        /// What was attempted.
        attempt: &'static str,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// The file system refused.
    #[error("{attempt}")]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// The answer.
        source: io::Error,
    },
}

/// What a reconcile asks for next; `None` waits for a change.
pub(crate) type Next = Result<Option<Duration>, ReconcileError>;

/// Says what a failed call attempted.
pub(crate) trait Attempt<T> {
    /// Maps the error to [`ReconcileError`].
    fn attempt(self, attempt: &'static str) -> Result<T, ReconcileError>;
    /// As [`Attempt::attempt`], but an object that is gone is no error.
    fn attempt_unless_gone(self, attempt: &'static str) -> Result<Option<T>, ReconcileError>;
}

impl<T> Attempt<T> for Result<T, kube::Error> {
    fn attempt(self, attempt: &'static str) -> Result<T, ReconcileError> {
        self.map_err(|source| match code(&source) {
            Some(409) if !is_already_exists(&source) => ReconcileError::Stale { attempt },
            _ => ReconcileError::Api {
                attempt,
                source: Box::new(source),
            },
        })
    }

    fn attempt_unless_gone(self, attempt: &'static str) -> Result<Option<T>, ReconcileError> {
        match self {
            Err(error) if is_not_found(&error) => Ok(None),
            result => result.attempt(attempt).map(Some),
        }
    }
}

/// Whether the object or its kind does not exist.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    code(error) == Some(404)
}

/// Whether a create met an object of that name.
pub(crate) fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists")
}

fn code(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error {
        Some(status.code)
    } else {
        None
    }
}

/// Parameters of creates and replaces.
pub(crate) fn post_params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Parameters of patches.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Deletes exactly the object with this uid, dependents by the policy.
pub(crate) fn delete_params(uid: Option<String>, policy: PropagationPolicy) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(policy),
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// The objects of one kind in the namespace of `object`.
pub(crate) fn api_beside<K, O>(client: &Client, object: &O) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    O: Resource,
{
    Api::namespaced(
        client.clone(),
        object.meta().namespace.as_deref().unwrap_or_default(),
    )
}

/// Merges `patch` into the object if it is still at the version that we saw.
pub(crate) async fn merge<K>(
    api: &Api<K>,
    seen: &K,
    mut patch: Value,
    attempt: &'static str,
) -> Result<Option<K>, ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    patch["metadata"]["resourceVersion"] = json!(seen.meta().resource_version);
    api.patch(&seen.name_any(), &patch_params(), &Patch::Merge(&patch))
        .await
        .attempt_unless_gone(attempt)
}

/// Replaces the status of an object that is still at the version that we saw.
pub(crate) async fn replace_status<K>(
    api: &Api<K>,
    changed: &K,
    attempt: &'static str,
) -> Result<(), ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug + Serialize,
{
    api.replace_status(&changed.name_any(), &post_params(), changed)
        .await
        .attempt_unless_gone(attempt)?;
    Ok(())
}
