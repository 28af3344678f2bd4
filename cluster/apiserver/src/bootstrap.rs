//! The objects that every cluster starts with.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::Api;
use crate::auth::defaults;
use crate::machinery::apply::normalize_metadata;
use crate::pki::KUBERNETES_SERVICE_IP;
use crate::status::ApiError;
use crate::store::{Change, Expect, StoreError, Write};
use crate::{clock, definitions, strategy};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing, and brings stored definitions and addresses into force.
pub(crate) async fn run(api: &Arc<Api>) -> Result<(), ApiError> {
    for service in api.store.snapshot("/services").entries.values() {
        api.addresses.remember(&service.value());
    }
    definitions::load(api).await;
    for name in NAMESPACES {
        ensure(
            api,
            "",
            "namespaces",
            None,
            json!({"metadata": {"name": name}}),
        )
        .await?;
    }
    for (plural, object) in defaults::objects().map_err(ApiError::internal)? {
        ensure(api, "rbac.authorization.k8s.io", plural, None, object).await?;
    }
    fill_roles(api).await;
    for (group, plural, object) in own_service(&api.advertise_url) {
        replace(api, group, plural, "default", object).await?;
    }
    Ok(())
}

async fn fill_roles(api: &Arc<Api>) {
    let catalog = api.registry.catalog();
    if let Some(roles) = catalog.resource("rbac.authorization.k8s.io", "v1", "clusterroles") {
        definitions::after_write(api, roles, "admin").await;
    }
}

/// The Service by which pods find this server, and where it leads.
fn own_service(advertise_url: &str) -> Vec<(&'static str, &'static str, Value)> {
    let parsed = url::Url::parse(advertise_url).ok();
    let port = parsed
        .as_ref()
        .and_then(url::Url::port_or_known_default)
        .unwrap_or(6443);
    let host = parsed
        .as_ref()
        .and_then(url::Url::host_str)
        .unwrap_or("127.0.0.1")
        .to_owned();
    let address = if host == "localhost" {
        "127.0.0.1".to_owned()
    } else {
        host
    };
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "metadata": {"name": "kubernetes", "labels": labels},
        "spec": {
            "clusterIP": KUBERNETES_SERVICE_IP.to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    });
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    vec![
        ("", "services", service),
        ("discovery.k8s.io", "endpointslices", slice),
        ("", "endpoints", endpoints),
    ]
}

/// Creates an object that is not there.
async fn ensure(
    api: &Arc<Api>,
    group: &str,
    plural: &str,
    namespace: Option<&str>,
    mut object: Value,
) -> Result<(), ApiError> {
    let catalog = api.registry.catalog();
    let found = catalog
        .groups()
        .iter()
        .find(|(name, _)| name == group)
        .and_then(|(_, versions)| versions.first());
    let version = found.map_or("v1", String::as_str);
    let resource = catalog
        .resource(group, version, plural)
        .ok_or_else(ApiError::no_such_path)?;
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let key = resource.key(namespace, &name);
    if api.store.get(&resource.shelf, &key).is_some() {
        return Ok(());
    }
    object["kind"] = json!(resource.kind);
    object["apiVersion"] = json!(resource.api_version());
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object["metadata"]["uid"] = json!(uuid::Uuid::now_v7().to_string());
    object["metadata"]["creationTimestamp"] = json!(clock::now());
    if strategy::counts_generations(resource) {
        object["metadata"]["generation"] = json!(1);
    }
    strategy::default(resource, &mut object);
    strategy::prepare_create(resource, &mut object);
    if resource.is("", "services") {
        api.addresses.allocate(&mut object, None)?;
    }
    normalize_metadata(&mut object);
    write(api, &resource.shelf, key, Expect::Absent, object).await
}

/// Creates an object or makes the stored one say the same.
async fn replace(
    api: &Arc<Api>,
    group: &str,
    plural: &str,
    namespace: &str,
    object: Value,
) -> Result<(), ApiError> {
    let shelf = format!("{group}/{plural}");
    let key = format!(
        "{namespace}/{}",
        object["metadata"]["name"].as_str().unwrap_or_default()
    );
    let Some(entry) = api.store.get(&shelf, &key) else {
        return ensure(api, group, plural, Some(namespace), object).await;
    };
    let mut next = entry.value();
    for (name, value) in object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "metadata")
    {
        match value {
            Value::Object(fields) => {
                for (inner, value) in fields {
                    next[name][inner] = value.clone();
                }
            }
            _ => next[name] = value.clone(),
        }
    }
    if next == entry.value() {
        return Ok(());
    }
    write(
        api,
        &Arc::from(shelf),
        key,
        Expect::Revision(entry.revision),
        next,
    )
    .await
}

async fn write(
    api: &Arc<Api>,
    shelf: &Arc<str>,
    key: String,
    expect: Expect,
    object: Value,
) -> Result<(), ApiError> {
    let write = Write {
        resource: Arc::clone(shelf),
        key,
        expect,
        change: Change::Put(object),
    };
    match api.store.write(write).await {
        Ok(_) | Err(StoreError::Exists) => Ok(()),
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}
