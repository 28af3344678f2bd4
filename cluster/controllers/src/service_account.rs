//! Service account controller: every namespace gets its `default` account and the cluster's CA certificate.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::{Api, Client, core::ObjectMeta};
use serde_json::json;

use crate::{
    api::{Attempt, Next, ReconcileError, is_already_exists, merge, post_params},
    cache::{Cache, Key},
    worker::Reconcile,
};

/// The account of Pods that name none.
pub(crate) const DEFAULT_ACCOUNT: &str = "default";
/// The ConfigMap that projected volumes take `ca.crt` from.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";
/// The key in [`ROOT_CA`].
const CA_KEY: &str = "ca.crt";

/// Gives every namespace its `default` account and the cluster's CA certificate.
pub(crate) struct ServiceAccountController {
    /// The API server.
    pub(crate) client: Client,
    /// All namespaces.
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    /// The accounts named [`DEFAULT_ACCOUNT`].
    pub(crate) accounts: Arc<Cache<ServiceAccount>>,
    /// The ConfigMaps named [`ROOT_CA`].
    pub(crate) config_maps: Arc<Cache<ConfigMap>>,
    /// The certificate, PEM.
    pub(crate) ca_pem: String,
}

impl Reconcile for ServiceAccountController {
    type Key = Key;
    const NAME: &'static str = "service-account";

    async fn reconcile(&self, key: &Key) -> Next {
        let Some(namespace) = self.namespaces.get(key) else {
            return Ok(None);
        };
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if self
            .accounts
            .get(&Key::new(&key.name, DEFAULT_ACCOUNT))
            .is_none()
        {
            self.create_account(&key.name).await?;
        }
        let published = self.config_maps.get(&Key::new(&key.name, ROOT_CA));
        self.publish_certificate(&key.name, published.as_deref())
            .await?;
        Ok(None)
    }
}

impl ServiceAccountController {
    async fn create_account(&self, namespace: &str) -> Result<(), ReconcileError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let account = ServiceAccount {
            metadata: meta(namespace, DEFAULT_ACCOUNT),
            ..ServiceAccount::default()
        };
        match api.create(&post_params(), &account).await {
            Err(error) if is_already_exists(&error) => Ok(()),
            result => result
                .attempt_unless_gone("create the default service account")
                .map(|_| ()),
        }
    }

    async fn publish_certificate(
        &self,
        namespace: &str,
        published: Option<&ConfigMap>,
    ) -> Result<(), ReconcileError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let data = BTreeMap::from([(CA_KEY.to_owned(), self.ca_pem.clone())]);
        let attempt = "publish the CA certificate";
        match published {
            Some(found)
                if found.data.as_ref().and_then(|data| data.get(CA_KEY)) == Some(&self.ca_pem) =>
            {
                Ok(())
            }
            Some(found) => merge(&api, found, json!({"data": data}), attempt)
                .await
                .map(|_| ()),
            None => {
                let created = ConfigMap {
                    metadata: meta(namespace, ROOT_CA),
                    data: Some(data),
                    ..ConfigMap::default()
                };
                match api.create(&post_params(), &created).await {
                    Err(error) if is_already_exists(&error) => Ok(()),
                    result => result.attempt_unless_gone(attempt).map(|_| ()),
                }
            }
        }
    }
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}
