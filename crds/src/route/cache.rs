//! A Route's cache: answers that are given again to equal requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Per;
use crate::{reference::SecretKeyRef, schema::DURATION};

/// Answers that are given again to equal requests, and equal requests at once that are sent only once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.per) || self.per in ['Key', 'Route', 'Team', 'User']",
    "message": "answers are shared by Key, Team, User or Route",
    "fieldPath": ".per"
}]))]
pub struct Cache {
    /// How long an answer is given again, as 10m.
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub ttl: String,
    /// Bytes of answers that each gateway keeps for this route, the least recently given ones go first; 64 MiB if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub max_bytes: Option<i64>,
    /// Who shares answers: the requests of one key, team or user, or all of the route; Key if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// A Redis or Valkey that keeps the answers of all gateways besides; nowhere else if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<CacheStore>,
}

/// A Redis or Valkey that keeps the answers of all gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheStore {
    /// The Secret with its URL, as redis://USER:PASSWORD@HOST:6379/0, or rediss:// for TLS.
    pub secret_ref: SecretKeyRef,
    /// How long it may take to say whether it has an answer, at most 10s; requests go on without it then; 50ms if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: Option<String>,
}
