//! How stored objects are shown: in the version of the request, as rows of a table, or as metadata only.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use crate::api::call::Call;
use crate::machinery::table::{self, Columns, Include, partial as partial_of};
use crate::negotiate::Shape;
use crate::registry::Resource;
use crate::store::Entry;
use crate::{clock, events};

/// Whether the stored bytes are what the request wants to see.
fn is_as_stored(resource: &Resource, entry: &Entry) -> bool {
    match resource.custom() {
        Some(custom) => {
            entry.revision >= custom.since && custom.storage_version == resource.api_version()
        }
        None => !events::is_view(resource),
    }
}

/// The object's JSON.
pub(crate) fn bytes(resource: &Resource, entry: &Entry) -> Bytes {
    if is_as_stored(resource, entry) {
        return entry.bytes.clone();
    }
    Bytes::from(value(resource, entry).to_string())
}

/// The object.
pub(crate) fn value(resource: &Resource, entry: &Entry) -> Value {
    let mut value = entry.value();
    if !is_as_stored(resource, entry) {
        show(resource, &mut value);
    }
    value
}

/// Turns what is stored into what the request wants to see.
fn show(resource: &Resource, value: &mut Value) {
    match resource.custom() {
        Some(custom) => {
            value["apiVersion"] = json!(resource.api_version());
            custom.schema.prune(value);
            custom.schema.apply_defaults(value);
        }
        None if events::is_view(resource) => events::to_view(value),
        None => {}
    }
}

/// Turns an object of the request's version into what is stored.
pub(crate) fn to_storage(resource: &Resource, value: &mut Value) {
    if let Some(custom) = resource.custom()
        && custom.storage_version != resource.api_version()
    {
        value["apiVersion"] = json!(custom.storage_version);
    }
}

/// One object in the shape that was asked for.
pub(crate) fn shaped(call: &Call, object: Value, shape: Shape) -> Value {
    match shape {
        Shape::Whole => object,
        Shape::Partial => partial(&object),
        Shape::Table => {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            table(call, &[object], metadata)
        }
    }
}

/// Metadata only.
pub(crate) fn partial(object: &Value) -> Value {
    partial_of(object)
}

/// What the rows of a table carry beside their cells.
fn include(call: &Call) -> Include {
    call.query
        .get("includeObject")
        .and_then(Include::parse)
        .unwrap_or_default()
}

/// Objects as a table.
pub(crate) fn table(call: &Call, objects: &[Value], metadata: Value) -> Value {
    let request = table::Request {
        objects,
        metadata,
        include: include(call),
        now: &clock::now(),
        has_headers: true,
    };
    table::render(&columns(&call.resource), &request)
}

fn columns(resource: &Resource) -> Columns {
    match resource.custom() {
        Some(custom) => Columns::for_custom(&custom.columns),
        None => Columns::for_builtin(&resource.group, &resource.kind),
    }
}

/// How a watch shows objects.
pub(crate) struct View {
    resource: Arc<Resource>,
    shape: Shape,
    include: Include,
    columns: Option<Columns>,
    /// A watched table tells its columns once.
    columns_told: bool,
}

impl View {
    pub(crate) fn of(call: &Call, shape: Shape) -> Self {
        Self {
            resource: Arc::clone(&call.resource),
            shape,
            include: include(call),
            columns: (shape == Shape::Table).then(|| columns(&call.resource)),
            columns_told: false,
        }
    }

    /// A frame with a stored object.
    pub(crate) fn frame(&mut self, kind: &str, entry: &Entry) -> Bytes {
        if self.shape == Shape::Whole {
            return frame_bytes(kind, &bytes(&self.resource, entry));
        }
        self.frame_shown(kind, &value(&self.resource, entry))
    }

    /// A frame with an object as it was stored.
    pub(crate) fn frame_value(&mut self, kind: &str, mut object: Value) -> Bytes {
        show(&self.resource, &mut object);
        self.frame_shown(kind, &object)
    }

    fn frame_shown(&mut self, kind: &str, object: &Value) -> Bytes {
        let shown = match (&self.columns, self.shape) {
            (Some(columns), _) => {
                let request = table::Request {
                    objects: std::slice::from_ref(object),
                    metadata: json!({"resourceVersion": object["metadata"]["resourceVersion"]}),
                    include: self.include,
                    now: &clock::now(),
                    has_headers: !self.columns_told,
                };
                self.columns_told = true;
                table::render(columns, &request)
            }
            (None, Shape::Partial) => partial(object),
            (None, Shape::Whole | Shape::Table) => object.clone(),
        };
        frame_bytes(kind, shown.to_string().as_bytes())
    }

    /// A frame that only tells a revision; `initial_end` says that what was there at the start is told.
    pub(crate) fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".to_owned(), json!(revision.to_string()));
        if initial_end {
            metadata.insert(
                "annotations".to_owned(),
                json!({"k8s.io/initial-events-end": "true"}),
            );
        }
        let object = json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata});
        self.frame_shown("BOOKMARK", &object)
    }
}

/// One line of a watch.
pub(crate) fn frame_bytes(kind: &str, object: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(object.len() + 40);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
    frame.freeze()
}
