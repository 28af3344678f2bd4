//! The API: Model, Route, Agent, Workspace and WorkspaceTemplate, their rules and their conditions.
//!
//! One file a kind. A field exists when its feature works. What the schema cannot express by type it says in CEL, so
//! that the API server refuses bad input with the field's path; what needs other objects is the operator's to check.
//! `crds/yaml/` is generated from here by `cargo xtask crds` and compared by a test.

pub mod agent;
pub mod condition;
mod definition;
pub mod external;
pub mod model;
pub mod names;
pub mod reference;
pub mod resources;
pub mod route;
mod schema;
pub mod workspace;
pub mod workspace_template;

#[cfg(test)]
mod tests;

pub use agent::{Agent, AgentSpec, AgentStatus};
pub use condition::{Condition, ConditionKind, Reason};
pub use definition::{all, yaml};
pub use model::{Model, ModelSpec, ModelStatus};
pub use route::{Route, RouteSpec, RouteStatus};
pub use workspace::{Workspace, WorkspaceSpec, WorkspaceStatus};
pub use workspace_template::{WorkspaceTemplate, WorkspaceTemplateSpec, WorkspaceTemplateStatus};

/// The API group of all kinds.
pub const GROUP: &str = "quarterdeck.dev";
/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";
