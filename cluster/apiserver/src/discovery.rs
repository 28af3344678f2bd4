//! Discovery documents, aggregated and plain, built from the catalog.

use serde_json::{Map, Value, json};

use crate::registry::{Catalog, Resource, Subresource};

/// The media type that aggregated discovery is asked for and answered with.
pub(crate) const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/api` or `/apis` with everything below it in one document.
pub(crate) fn aggregated(catalog: &Catalog, core: bool) -> Value {
    let items: Vec<Value> = if core {
        vec![json!({"metadata": {}, "versions": [version(catalog, "", "v1")]})]
    } else {
        let groups = catalog.groups().iter().map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|one| version(catalog, group, one))
                .collect();
            json!({"metadata": {"name": group}, "versions": versions})
        });
        groups.collect()
    };
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn version(catalog: &Catalog, group: &str, version: &str) -> Value {
    let resources: Vec<Value> = catalog
        .of(group, version)
        .iter()
        .map(|resource| aggregated_resource(resource))
        .collect();
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut out = Map::new();
    out.insert("resource".to_owned(), json!(resource.plural));
    out.insert(
        "responseKind".to_owned(),
        kind(&resource.group, &resource.version, &resource.kind),
    );
    out.insert(
        "scope".to_owned(),
        json!(if resource.namespaced {
            "Namespaced"
        } else {
            "Cluster"
        }),
    );
    out.insert("singularResource".to_owned(), json!(resource.singular));
    out.insert("verbs".to_owned(), json!(resource.verbs.names()));
    insert_names(&mut out, resource);
    let subresources = resource.subresources.iter().map(|subresource| {
        let (group, version) = subresource
            .group_version
            .unwrap_or((&resource.group, &resource.version));
        json!({
            "subresource": subresource.name,
            "responseKind": kind(group, version, &subresource.kind),
            "verbs": subresource.verbs,
        })
    });
    let subresources: Vec<Value> = subresources.collect();
    if !subresources.is_empty() {
        out.insert("subresources".to_owned(), Value::Array(subresources));
    }
    Value::Object(out)
}

fn insert_names(out: &mut Map<String, Value>, resource: &Resource) {
    if !resource.short_names.is_empty() {
        out.insert("shortNames".to_owned(), json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        out.insert("categories".to_owned(), json!(resource.categories));
    }
}

/// `/api`, plain.
pub(crate) fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`, plain.
pub(crate) fn group_list(catalog: &Catalog) -> Value {
    let groups: Vec<Value> = catalog
        .groups()
        .iter()
        .map(|(name, versions)| group_of(name, versions, false))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`; nothing for an unknown group.
pub(crate) fn group(catalog: &Catalog, name: &str) -> Option<Value> {
    let (name, versions) = catalog.groups().iter().find(|(group, _)| group == name)?;
    Some(group_of(name, versions, true))
}

fn group_of(name: &str, versions: &[String], typed: bool) -> Value {
    let entry =
        |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let entries: Vec<Value> = versions.iter().map(entry).collect();
    let preferred = entries.first().cloned();
    let mut out = Map::new();
    if typed {
        out.insert("kind".to_owned(), json!("APIGroup"));
        out.insert("apiVersion".to_owned(), json!("v1"));
    }
    out.insert("name".to_owned(), json!(name));
    out.insert("versions".to_owned(), json!(entries));
    out.insert("preferredVersion".to_owned(), json!(preferred));
    Value::Object(out)
}

/// `/api/v1` or `/apis/GROUP/VERSION`, plain; nothing when it is not served.
pub(crate) fn resource_list(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    if !catalog.has(group, version) {
        return None;
    }
    let mut resources = Vec::new();
    for resource in catalog.of(group, version) {
        resources.push(plain_resource(&resource));
        resources.extend(
            resource
                .subresources
                .iter()
                .map(|subresource| plain_subresource(&resource, subresource)),
        );
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut out = Map::new();
    out.insert("kind".to_owned(), json!("APIResourceList"));
    if !group.is_empty() {
        out.insert("apiVersion".to_owned(), json!("v1"));
    }
    out.insert("groupVersion".to_owned(), json!(group_version));
    out.insert("resources".to_owned(), Value::Array(resources));
    Some(Value::Object(out))
}

fn plain_resource(resource: &Resource) -> Value {
    let mut verbs = resource.verbs.names().to_vec();
    // The real server lists the verbs of custom resources in another order.
    if resource.custom().is_some() {
        verbs = vec![
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "create",
            "update",
            "watch",
        ];
    }
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(resource.plural));
    out.insert("singularName".to_owned(), json!(resource.singular));
    out.insert("namespaced".to_owned(), json!(resource.namespaced));
    out.insert("kind".to_owned(), json!(resource.kind));
    out.insert("verbs".to_owned(), json!(verbs));
    insert_names(&mut out, resource);
    if resource.verbs != crate::registry::Verbs::CreateOnly {
        out.insert(
            "storageVersionHash".to_owned(),
            json!(storage_version_hash(resource)),
        );
    }
    Value::Object(out)
}

fn plain_subresource(resource: &Resource, subresource: &Subresource) -> Value {
    let mut out = Map::new();
    out.insert(
        "name".to_owned(),
        json!(format!("{}/{}", resource.plural, subresource.name)),
    );
    out.insert("singularName".to_owned(), json!(""));
    out.insert("namespaced".to_owned(), json!(resource.namespaced));
    if let Some((group, version)) = subresource.group_version {
        out.insert("group".to_owned(), json!(group));
        out.insert("version".to_owned(), json!(version));
    }
    out.insert("kind".to_owned(), json!(subresource.kind));
    out.insert("verbs".to_owned(), json!(subresource.verbs));
    Value::Object(out)
}

/// Tells clients when the stored form of a kind changed.
fn storage_version_hash(resource: &Resource) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let identity = format!("{}/{}/{}", resource.group, resource.version, resource.kind);
    let digest = Sha256::digest(identity.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.get(..8).unwrap_or_default())
}
