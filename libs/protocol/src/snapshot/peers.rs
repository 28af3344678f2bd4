//! The replicas of the gateway, which share limits and the keys that are made at run time.

use serde::{Deserialize, Serialize};

use crate::secret::SecretString;

/// The replicas of the gateway, as they find each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peers {
    /// What they show to each other: 32 random characters or more.
    pub token: SecretString,
    /// What a replica does with shared limits while it cannot reach those that it needs.
    #[serde(default)]
    pub on_partition: OnPartition,
    /// All of them, whoever reads this included.
    pub replicas: Vec<Peer>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name, as it was started with: its Pod's on a cluster.
    pub name: String,
    /// Where the others reach it, as `http://10.0.0.7:8080`.
    pub url: String,
}

/// What a replica does with shared limits while it cannot reach those that it needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnPartition {
    /// It gives as much of a limit as all replicas could at once: what is left, divided by their number. Then it refuses.
    #[default]
    LocalShare,
    /// It gives what it holds, and refuses.
    Refuse,
}
