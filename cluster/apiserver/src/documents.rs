//! OpenAPI documents: built when first asked for, known by the hash of their content.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::machinery::openapi;
use crate::registry::{Catalog, Resource};

/// Rises when documents are built otherwise from the same kinds: clients keep what they know by a hash for ever.
const REVISION: u32 = 2;

/// A document and the hash of its content.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) bytes: Bytes,
    pub(crate) tag: String,
}

/// Documents of one generation of the catalog.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    built: Mutex<Built>,
}

#[derive(Debug, Default)]
struct Built {
    generation: u64,
    index: Option<Document>,
    documents: HashMap<String, Document>,
}

/// The hash by which clients know a document.
pub(crate) fn tag(bytes: &[u8]) -> String {
    Sha512::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

impl Document {
    fn new(value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        Self {
            tag: tag(&bytes),
            bytes,
        }
    }
}

impl Documents {
    /// `/openapi/v3`: where each group version's document is.
    pub(crate) fn index(&self, catalog: &Catalog) -> Option<Document> {
        if let Some(found) = self.at(catalog, |built| built.index.clone()) {
            return Some(found);
        }
        let mut paths = Map::new();
        for path in served(catalog) {
            let tag = identity(catalog, &path);
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={tag}")}),
            );
        }
        let document = Document::new(&json!({"paths": paths}));
        self.at(catalog, |built| built.index = Some(document.clone()));
        Some(document)
    }

    /// The document of a group version, by its path: `api/v1`, `apis/apps/v1`.
    pub(crate) fn of(&self, catalog: &Catalog, path: &str) -> Option<Document> {
        if let Some(found) = self.at(catalog, |built| built.documents.get(path).cloned()) {
            return Some(found);
        }
        if !served(catalog).iter().any(|one| one == path) {
            return None;
        }
        let resources = resources_of(catalog, path);
        let bytes = Bytes::from(build(path, &resources).to_string());
        let document = Document {
            bytes,
            tag: identity(catalog, path),
        };
        self.at(catalog, |built| {
            built.documents.insert(path.to_owned(), document.clone())
        });
        Some(document)
    }

    fn at<T>(&self, catalog: &Catalog, action: impl FnOnce(&mut Built) -> T) -> T {
        let mut built = self.built.lock();
        if built.generation != catalog.generation {
            *built = Built {
                generation: catalog.generation,
                ..Built::default()
            };
        }
        action(&mut built)
    }
}

/// The paths that have documents.
fn served(catalog: &Catalog) -> Vec<String> {
    let mut paths = vec!["api/v1".to_owned()];
    for (group, versions) in catalog.groups() {
        paths.extend(
            versions
                .iter()
                .map(|version| format!("apis/{group}/{version}")),
        );
    }
    paths
}

fn resources_of(catalog: &Catalog, path: &str) -> Vec<Arc<Resource>> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => catalog.of("", version),
        ["apis", group, version] => catalog.of(group, version),
        _ => Vec::new(),
    }
}

/// What a document depends on, hashed: cheap to know without building the document.
fn identity(catalog: &Catalog, path: &str) -> String {
    let mut text = format!("{path} {REVISION}");
    for resource in resources_of(catalog, path) {
        text.push_str(&resource.plural);
        if let Some(custom) = resource.custom() {
            text.push_str(&resource.kind);
            text.push_str(&custom.raw_schema.to_string());
        }
    }
    tag(text.as_bytes())
}

fn build(path: &str, resources: &[Arc<Resource>]) -> Value {
    let (group, version) = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (String::new(), (*version).to_owned()),
        ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return Value::Null,
    };
    let subresources: Vec<Vec<&str>> = resources
        .iter()
        .map(|resource| {
            resource
                .subresources
                .iter()
                .map(|one| one.name.as_str())
                .collect()
        })
        .collect();
    let described: Vec<openapi::Resource<'_>> = resources
        .iter()
        .zip(&subresources)
        .map(|(resource, subresources)| describe(resource, subresources))
        .collect();
    openapi::document(&group, &version, &described)
}

fn describe<'a>(resource: &'a Resource, subresources: &'a [&'a str]) -> openapi::Resource<'a> {
    openapi::Resource {
        kind: &resource.kind,
        list_kind: &resource.list_kind,
        plural: &resource.plural,
        is_namespaced: resource.namespaced,
        verbs: resource.verbs.names(),
        subresources,
        source: resource
            .custom()
            .map_or(openapi::Source::Builtin, |custom| {
                openapi::Source::Custom(&custom.raw_schema)
            }),
    }
}
