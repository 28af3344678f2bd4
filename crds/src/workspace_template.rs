//! WorkspaceTemplate: what the workspaces made from it have in common.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    condition::Condition,
    resources::{Resources, Volume},
};

/// Image, sizes and network.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "quarterdeck.dev",
    version = "v1alpha1",
    kind = "WorkspaceTemplate",
    plural = "workspacetemplates",
    shortname = "wst",
    category = "quarterdeck",
    namespaced,
    doc = "What workspaces made from this template have in common. A change reaches a running workspace when it is stopped and started.",
    derive = "PartialEq",
    status = "WorkspaceTemplateStatus",
    printcolumn = r#"{"name": "Image", "type": "string", "jsonPath": ".spec.image"}"#,
    printcolumn = r#"{"name": "Used", "type": "integer", "jsonPath": ".status.inUse"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceTemplateSpec {
    /// The root file system: an image, oci-layout:///PATH, or builtin://host for the host's own /usr.
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = [{
        "rule": "!self.contains(' ') && (!self.startsWith('builtin://') || self == 'builtin://host')",
        "message": "must be an image, oci-layout:///PATH or builtin://host"
    }]))]
    pub image: String,
    /// What the workspace is promised and may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The volume with the home directory.
    #[serde(default)]
    pub home: Volume,
    /// What programs may reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Environment of all programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvironmentVariable>,
}

/// What programs may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Outwards; nothing if not given.
    #[serde(default)]
    pub egress: Egress,
}

/// What programs may reach outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// Domain names, through the workspace's proxy; a leading *. takes all names below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub domains: Vec<String>,
}

/// A variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentVariable {
    /// The variable's name.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub name: String,
    /// Its value; never a credential.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// What the operator observed about a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceTemplateStatus {
    /// The generation that was observed; -1 before the first look.
    #[serde(default = "crate::condition::unobserved")]
    pub observed_generation: i64,
    /// The hash of what a workspace gets from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub hash: Option<String>,
    /// Workspaces that use it.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub in_use: i32,
    /// The conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for WorkspaceTemplateStatus {
    fn default() -> Self {
        Self {
            observed_generation: crate::condition::unobserved(),
            hash: None,
            in_use: 0,
            conditions: Vec::new(),
        }
    }
}
