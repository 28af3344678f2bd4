//! The pure middle of the API server: schemas, patches, apply, selectors, tables and documents, without I/O or clock.

pub mod apply;
pub mod builtin;
pub mod crd;
pub mod json;
pub mod jsonpath;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod table;

/// The Kubernetes version whose behaviour and kinds are served.
pub const VERSION: &str = "v1.37.0";
