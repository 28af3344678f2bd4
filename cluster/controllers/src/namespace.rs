//! Namespace controller: empties a namespace that is being deleted, then lets it go.

mod plan;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, PropagationPolicy},
};
use tracing::info;

use self::plan::{Left, status_of, without_finalizer};
use crate::{
    api::{Attempt, Next, ReconcileError, post_params, replace_status},
    cache::{Cache, Key},
    inventory::{Inventory, Kind},
    worker::Reconcile,
};

/// Kinds that cannot be watched do not tell when they are empty; they are looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Empties namespaces that are being deleted.
pub(crate) struct NamespaceController {
    /// The API server.
    pub(crate) client: Client,
    /// All namespaces.
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    /// All kinds.
    pub(crate) inventory: Arc<Inventory>,
}

impl Reconcile for NamespaceController {
    type Key = Key;
    const NAME: &'static str = "namespace";

    async fn reconcile(&self, key: &Key) -> Next {
        let Some(namespace) = self
            .namespaces
            .get(key)
            .filter(|found| found.metadata.deletion_timestamp.is_some())
        else {
            return Ok(None);
        };
        let Some(finalized) = without_finalizer(&namespace) else {
            return Ok(None);
        };
        let left = self.empty(&key.name).await?;
        let api: Api<Namespace> = Api::all(self.client.clone());
        if left.is_empty() {
            let answer = api
                .replace_subresource("finalize", &key.name, &post_params(), &finalized)
                .await;
            // The answer may be the namespace or a Status: only a refusal matters.
            if !matches!(answer, Err(kube::Error::SerdeError(_))) {
                answer.attempt_unless_gone("finalize a namespace")?;
            }
            info!(namespace = key.name, "namespace emptied");
            return Ok(None);
        }
        if let Some(changed) = status_of(&namespace, &left, Timestamp::now()) {
            replace_status(&api, &changed, "write a namespace's status").await?;
        }
        Ok(Some(LOOK_AGAIN))
    }
}

impl NamespaceController {
    /// Deletes the contents and returns what is still there.
    async fn empty(&self, namespace: &str) -> Result<Left, ReconcileError> {
        let mut left = Left::default();
        for kind in self
            .inventory
            .kinds()
            .iter()
            .filter(|kind| kind.is_namespaced)
        {
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
            let objects = list(&api).await?;
            if objects
                .iter()
                .all(|object| object.metadata.deletion_timestamp.is_some())
            {
                left.add(&kind.resource, &objects);
                continue;
            }
            delete(&api, kind, &objects).await?;
            left.add(&kind.resource, &list(&api).await?);
        }
        Ok(left)
    }
}

type Metadata = kube::api::PartialObjectMeta<DynamicObject>;

async fn list(api: &Api<DynamicObject>) -> Result<Vec<Metadata>, ReconcileError> {
    let listed = api
        .list_metadata(&ListParams::default())
        .await
        .attempt_unless_gone("list a namespace's contents")?;
    Ok(listed.map(|list| list.items).unwrap_or_default())
}

async fn delete(
    api: &Api<DynamicObject>,
    kind: &Kind,
    objects: &[Metadata],
) -> Result<(), ReconcileError> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let attempt = "delete a namespace's contents";
    if kind.has_delete_collection {
        let answer = api.delete_collection(&params, &ListParams::default()).await;
        // The answer may be a Status or a list, of no interest: only a refusal matters.
        if !matches!(answer, Err(kube::Error::SerdeError(_))) {
            answer.attempt_unless_gone(attempt)?;
        }
        return Ok(());
    }
    for object in objects {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        api.delete(name, &params)
            .await
            .attempt_unless_gone(attempt)?;
    }
    Ok(())
}
