//! Which kinds the API server serves.

use kube::{
    Client, Discovery,
    api::ApiResource,
    discovery::{Scope, verbs},
};

/// One kind, in its most stable version.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    /// Its place in the API.
    pub(crate) resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub(crate) is_namespaced: bool,
    /// Whether its objects can be watched.
    pub(crate) is_watchable: bool,
    /// Whether many objects can be deleted at once.
    pub(crate) has_delete_collection: bool,
}

/// Asks for all kinds that can be listed and deleted.
pub(crate) async fn discover(client: &Client) -> Result<Vec<Kind>, kube::Error> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(_) => Discovery::new(client.clone()).run().await?,
    };
    let mut kinds = Vec::new();
    for group in discovery.groups_alphabetical() {
        for (resource, capabilities) in group.resources_by_stability() {
            if !capabilities.supports_operation(verbs::LIST)
                || !capabilities.supports_operation(verbs::DELETE)
            {
                continue;
            }
            kinds.push(Kind {
                resource,
                is_namespaced: capabilities.scope == Scope::Namespaced,
                is_watchable: capabilities.supports_operation(verbs::WATCH),
                has_delete_collection: capabilities.supports_operation(verbs::DELETE_COLLECTION),
            });
        }
    }
    Ok(kinds)
}
