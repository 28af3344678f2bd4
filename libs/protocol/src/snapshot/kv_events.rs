//! How a target's replicas say what changes in their key-value caches.

use serde::{Deserialize, Serialize};

/// How a target's replicas say what changes in their key-value caches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum KvEvents {
    /// As our engine does: server-sent events at `/kv_events`.
    Http,
    /// As vLLM and SGLang do: a ZeroMQ publisher at a port of the replica's host.
    Zmq {
        /// The port.
        port: u16,
        /// What the topics of the events begin with; all of them if empty.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        topic: String,
    },
}
