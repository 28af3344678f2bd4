//! Server-side apply of manifests, in the order that lets each find what it needs.

use anyhow::{Context, Result};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
    core::{DynamicObject, GroupVersionKind, TypeMeta},
};
use serde::Deserialize;

use super::{Cluster, dynamic_api, resolve};

/// The manager of the fields that the command line applies.
pub(crate) const FIELD_MANAGER: &str = "qd";

/// Reads the objects of a YAML text with any number of documents; `List`s are taken apart.
pub(crate) fn parse(text: &str) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for (number, document) in (1..).zip(serde_norway::Deserializer::from_str(text)) {
        let value = serde_json::Value::deserialize(document)
            .with_context(|| format!("reading document {number}"))?;
        if value.is_null() {
            continue;
        }
        let items = match value.get("items") {
            Some(serde_json::Value::Array(items)) => items.clone(),
            _ => vec![value],
        };
        for item in items {
            let object: DynamicObject = serde_json::from_value(item)
                .with_context(|| format!("reading document {number} as an object"))?;
            kind_of(&object)
                .with_context(|| format!("document {number} is not a Kubernetes object"))?;
            objects.push(object);
        }
    }
    Ok(objects)
}

/// An object's kind.
pub(crate) fn kind_of(object: &DynamicObject) -> Result<GroupVersionKind> {
    let types: &TypeMeta = object
        .types
        .as_ref()
        .context("it has no apiVersion and kind")?;
    GroupVersionKind::try_from(types).context("its apiVersion is malformed")
}

/// `model/smollm2`, as kubectl says it.
pub(crate) fn display(object: &DynamicObject) -> String {
    let kind = object
        .types
        .as_ref()
        .map_or("object", |types| types.kind.as_str());
    format!("{}/{}", kind.to_lowercase(), object.name_any())
}

impl Cluster {
    /// Applies objects; Namespaces and CRDs come first, since the others need them.
    pub(crate) async fn apply(
        &self,
        objects: &[DynamicObject],
        namespace: &str,
    ) -> Result<Vec<DynamicObject>> {
        let rank =
            |object: &DynamicObject| match object.types.as_ref().map(|types| types.kind.as_str()) {
                Some("Namespace") => 0,
                Some("CustomResourceDefinition") => 1,
                _ => 2,
            };
        let mut ordered: Vec<&DynamicObject> = objects.iter().collect();
        ordered.sort_by_key(|object| rank(object));
        let mut applied = Vec::with_capacity(objects.len());
        let mut discovery = self.discover().await?;
        for object in ordered {
            let kind = kind_of(object)?;
            if discovery.resolve_gvk(&kind).is_none() {
                // The CRD may be one that we have just applied.
                discovery = self.discover().await?;
            }
            let (resource, capabilities) = resolve(&discovery, &kind)?;
            let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
            let api = dynamic_api(self.client.clone(), &resource, &capabilities, &namespace);
            let params = PatchParams {
                force: true,
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let answer = api
                .patch(&object.name_any(), &params, &Patch::Apply(object))
                .await;
            applied.push(answer.with_context(|| format!("applying {}", display(object)))?);
        }
        Ok(applied)
    }
}

#[cfg(test)]
mod tests {
    use super::{display, parse};

    #[test]
    fn every_document_and_every_item_of_a_list_is_an_object() {
        let text = "# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n";
        let names: Vec<String> = parse(text).unwrap().iter().map(display).collect();
        assert_eq!(names, ["namespace/a", "secret/b"]);
    }

    #[test]
    fn a_document_that_is_no_object_is_named() {
        let error = parse("kind: Namespace\n").unwrap_err();
        assert_eq!(error.to_string(), "document 1 is not a Kubernetes object");
    }
}
