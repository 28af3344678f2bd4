//! Workspace: an isolated place with a home directory, in which programs run.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{condition::Condition, reference::NameRef};

/// Which template, and whether it runs.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "quarterdeck.dev",
    version = "v1alpha1",
    kind = "Workspace",
    plural = "workspaces",
    shortname = "ws",
    category = "quarterdeck",
    namespaced,
    doc = "An isolated place with a home directory in which agents and people run programs.",
    derive = "PartialEq",
    status = "WorkspaceStatus",
    selectable = ".spec.templateRef.name",
    printcolumn = r#"{"name": "Template", "type": "string", "jsonPath": ".spec.templateRef.name"}"#,
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Isolation", "type": "string", "jsonPath": ".status.isolation", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceSpec {
    /// The WorkspaceTemplate, of the same namespace.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "a workspace keeps its template; make another Workspace"
    }]))]
    pub template_ref: NameRef,
    /// Whether it runs; false removes the Pod and keeps the home directory.
    #[serde(default = "default_running")]
    pub running: bool,
}

/// What the operator observed about a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// The generation that was observed; -1 before the first look.
    #[serde(default = "crate::condition::unobserved")]
    pub observed_generation: i64,
    /// For display: Pending, Starting, Running, Stopping, Stopped or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// The Pod that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod_name: Option<String>,
    /// Where its gate answers inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub url: Option<String>,
    /// What confines its programs, in the node's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub isolation: Option<String>,
    /// The hash of the template that the Pod was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub template_hash: Option<String>,
    /// The conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for WorkspaceStatus {
    fn default() -> Self {
        Self {
            observed_generation: crate::condition::unobserved(),
            phase: None,
            pod_name: None,
            url: None,
            isolation: None,
            template_hash: None,
            conditions: Vec::new(),
        }
    }
}

const fn default_running() -> bool {
    true
}
