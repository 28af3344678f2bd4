//! Tables: what `kubectl get` prints, columns and cells.

mod age;
mod builtin;
mod cells;
mod network;
mod pods;
mod rest;
mod workloads;

use serde_json::{Map, Value, json};

use super::jsonpath::JsonPath;

const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATED_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// A cell of an object at a time.
type Render = fn(&Value, &str) -> Value;

#[derive(Debug, Clone)]
enum Cell {
    Path(JsonPath),
    Render(Render),
}

/// A column: how it is headed and what stands in it.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    cell: Cell,
}

/// The columns of a kind.
#[derive(Debug, Clone)]
pub struct Columns {
    columns: Vec<Column>,
    conditions: Option<fn(&Value) -> Option<Value>>,
}

/// How much of an object comes with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads the query parameter `includeObject`; `None` when it has no such value.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// What is to be rendered.
#[derive(Debug)]
pub struct Request<'a> {
    /// The rows.
    pub objects: &'a [Value],
    /// `metadata` of the table.
    pub metadata: Value,
    /// What comes with each row.
    pub include: Include,
    /// The time that ages are counted to.
    pub now: &'a str,
    /// Whether columns are described; they are once per watch.
    pub has_headers: bool,
}

fn name_column() -> Column {
    Column {
        name: "Name".to_owned(),
        kind: "string".to_owned(),
        format: "name".to_owned(),
        description: NAME_DESCRIPTION.to_owned(),
        priority: 0,
        cell: Cell::Render(cells::name),
    }
}

impl Columns {
    /// The columns of a custom resource, from its `additionalPrinterColumns`.
    pub fn for_custom(printer_columns: &Value) -> Self {
        let listed = printer_columns
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut columns = vec![name_column()];
        for one in listed {
            let text = |key: &str| {
                one.get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let path = text("jsonPath");
            let Ok(cell) = JsonPath::parse(&path) else {
                continue;
            };
            let described = text("description");
            columns.push(Column {
                name: text("name"),
                kind: text("type"),
                format: text("format"),
                description: if described.is_empty() {
                    format!("Custom resource definition column (in JSONPath format): {path}")
                } else {
                    described
                },
                priority: one
                    .get("priority")
                    .and_then(Value::as_i64)
                    .unwrap_or_default(),
                cell: Cell::Path(cell),
            });
        }
        if listed.is_empty()
            && let Ok(created) = JsonPath::parse(".metadata.creationTimestamp")
        {
            columns.push(Column {
                name: "Age".to_owned(),
                kind: "date".to_owned(),
                format: String::new(),
                description: CREATED_DESCRIPTION.to_owned(),
                priority: 0,
                cell: Cell::Path(created),
            });
        }
        Self {
            columns,
            conditions: None,
        }
    }

    /// The columns of a built-in kind.
    pub fn for_builtin(group: &str, kind: &str) -> Self {
        builtin::columns(group, kind)
    }

    fn headers(&self) -> Value {
        let header = |column: &Column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        };
        Value::Array(self.columns.iter().map(header).collect())
    }
}

impl Column {
    fn cell(&self, object: &Value, now: &str) -> Value {
        let path = match &self.cell {
            Cell::Render(render) => return render(object, now),
            Cell::Path(path) => path,
        };
        let Some(value) = path.first(object) else {
            return Value::Null;
        };
        match (self.kind.as_str(), value) {
            ("string", Value::String(text)) => json!(text),
            ("string", Value::Null) => Value::Null,
            ("string", other) => json!(other.to_string()),
            ("integer", Value::Number(number)) => number.as_i64().map_or_else(
                || json!(number.as_f64().unwrap_or_default().trunc()),
                |number| json!(number),
            ),
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(time)) => json!(age::since(time, now)),
            _ => Value::Null,
        }
    }
}

/// Renders objects as a `Table`.
pub fn render(columns: &Columns, request: &Request<'_>) -> Value {
    let rows = request
        .objects
        .iter()
        .map(|object| row(columns, object, request));
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": request.metadata,
        "columnDefinitions": if request.has_headers { columns.headers() } else { Value::Null },
        "rows": rows.collect::<Vec<_>>(),
    })
}

fn row(columns: &Columns, object: &Value, request: &Request<'_>) -> Value {
    let cells: Vec<Value> = columns
        .columns
        .iter()
        .map(|column| column.cell(object, request.now))
        .collect();
    let mut row = Map::new();
    row.insert("cells".to_owned(), Value::Array(cells));
    if let Some(condition) = columns.conditions.and_then(|conditions| conditions(object)) {
        row.insert("conditions".to_owned(), json!([condition]));
    }
    let shown = match request.include {
        Include::None => Value::Null,
        Include::Metadata => partial(object),
        Include::Object => object.clone(),
    };
    row.insert("object".to_owned(), shown);
    Value::Object(row)
}

/// An object reduced to its metadata.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

#[cfg(test)]
mod tests;
