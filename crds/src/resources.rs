//! Compute and storage amounts, a typed part of what a Pod offers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::QUANTITY;

/// What a container is promised and may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What the container may not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// Amounts of compute resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Processor cores, as "2" or "500m".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = QUANTITY))]
    pub cpu: Option<String>,
    /// Bytes of memory, as "4Gi".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = QUANTITY))]
    pub memory: Option<String>,
    /// Bytes of scratch space on the node, as "10Gi".
    #[serde(
        rename = "ephemeral-storage",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 32), regex(pattern = QUANTITY))]
    pub ephemeral_storage: Option<String>,
}

/// A volume that outlives its Pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
        "message": "the storage class of a volume cannot change; delete the object and make it anew",
        "fieldPath": ".storageClassName"
    },
    {
        "rule": "self.accessMode == oldSelf.accessMode",
        "message": "the access mode of a volume cannot change; delete the object and make it anew",
        "fieldPath": ".accessMode"
    },
    {
        "rule": "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
        "message": "a volume cannot shrink",
        "fieldPath": ".size"
    }
]))]
pub struct Volume {
    /// Bytes, as "10Gi".
    #[serde(default = "default_size")]
    #[schemars(length(min = 1, max = 32), regex(pattern = QUANTITY))]
    pub size: String,
    /// The StorageClass; the cluster's default if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// How many nodes may mount it: replicas on several nodes need ReadWriteMany.
    #[serde(default)]
    pub access_mode: AccessMode,
}

/// How many nodes may mount a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// One node.
    #[default]
    ReadWriteOnce,
    /// Many nodes.
    ReadWriteMany,
}

impl AccessMode {
    /// The word as a PersistentVolumeClaim has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            size: default_size(),
            storage_class_name: None,
            access_mode: AccessMode::default(),
        }
    }
}

fn default_size() -> String {
    "10Gi".to_owned()
}
