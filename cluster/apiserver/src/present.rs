//! How stored objects are shown: in the version of the request, as rows of a table, or as metadata only.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use crate::api::call::Call;
use crate::negotiate::Shape;
use crate::registry::Resource;
use crate::store::Entry;
use crate::table_shim as table;
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
            table(call, &[object], metadata, true)
        }
    }
}

/// Metadata only.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// What the rows of a table carry beside their cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowObject {
    None,
    Metadata,
    Whole,
}

impl RowObject {
    fn of(call: &Call) -> Self {
        match call.query.get("includeObject") {
            Some("None") => Self::None,
            Some("Object") => Self::Whole,
            _ => Self::Metadata,
        }
    }

    fn from(self, object: &Value) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Metadata => partial(object),
            Self::Whole => object.clone(),
        }
    }
}

/// Objects as a table.
pub(crate) fn table(call: &Call, objects: &[Value], metadata: Value, with_columns: bool) -> Value {
    Printer::new(&call.resource).table(RowObject::of(call), objects, metadata, with_columns)
}

/// Prints the objects of one kind.
struct Printer {
    columns: table::Columns,
}

impl Printer {
    fn new(resource: &Resource) -> Self {
        let columns = match resource.custom() {
            Some(custom) => table::Columns::custom(&custom.columns),
            None => table::Columns::built_in(&resource.group, &resource.kind),
        };
        Self { columns }
    }

    fn table(
        &self,
        row_object: RowObject,
        objects: &[Value],
        metadata: Value,
        with_columns: bool,
    ) -> Value {
        let now = clock::unix_seconds();
        let rows: Vec<Value> =
            objects.iter().map(|object| json!({"cells": self.columns.cells(object, now), "object": row_object.from(object)})).collect();
        let definitions = if with_columns {
            self.columns.definitions()
        } else {
            Value::Null
        };
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows,
        })
    }
}

/// How a watch shows objects.
pub(crate) struct View {
    resource: Arc<Resource>,
    shape: Shape,
    row_object: RowObject,
    printer: Option<Printer>,
    /// A watched table tells its columns once.
    columns_told: bool,
}

impl View {
    pub(crate) fn of(call: &Call, shape: Shape) -> Self {
        let printer = (shape == Shape::Table).then(|| Printer::new(&call.resource));
        Self {
            resource: Arc::clone(&call.resource),
            shape,
            row_object: RowObject::of(call),
            printer,
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
        let shown = match (&self.printer, self.shape) {
            (Some(printer), _) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let table = printer.table(
                    self.row_object,
                    std::slice::from_ref(object),
                    metadata,
                    !self.columns_told,
                );
                self.columns_told = true;
                table
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
