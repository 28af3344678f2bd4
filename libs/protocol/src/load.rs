//! The load report: how far an engine is from serving, served at `GET /health/load`.

use serde::{Deserialize, Serialize};

/// What an engine is doing before it can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadPhase {
    /// The process runs and has not started to load.
    Starting,
    /// Weights are being fetched into the cache.
    Downloading,
    /// The digest of the fetched file is being checked.
    Verifying,
    /// Weights are being read into the engine.
    Loading,
    /// The engine serves.
    Ready,
    /// Loading failed; it is retried with back-off, `reason` and `message` say what to do.
    Failed,
}

/// Why loading failed, in the words of the condition `ArtifactReady`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadFailure {
    /// The source does not exist or holds no such file.
    SourceNotFound,
    /// The source could not be reached; it is retried.
    SourceUnreachable,
    /// The source refused the credentials.
    SourceUnauthorized,
    /// The digest or the format of the file is not what was asked for.
    VerifyFailed,
    /// The disk or the memory does not hold the weights.
    InsufficientResources,
    /// The file is of a type or architecture that this engine does not serve.
    Unsupported,
}

/// What an engine says about its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadReport {
    /// What it is doing.
    pub phase: LoadPhase,
    /// Bytes done in this phase.
    pub bytes: u64,
    /// Bytes to do in this phase, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Set in [`LoadPhase::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<LoadFailure>,
    /// A sentence for people: what happened and what to do.
    #[serde(default)]
    pub message: String,
    /// Facts about the model, once loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ModelFacts>,
}

/// What the weights turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelFacts {
    /// The architecture's name in the weights file, as `llama`.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of the weights file.
    pub weight_bytes: u64,
    /// Longest sequence the model was trained for, in tokens.
    pub context_length: u32,
    /// The device that computes, as `cpu`.
    pub device: String,
}

impl LoadReport {
    /// The report of a process that has just started.
    pub const fn starting() -> Self {
        Self {
            phase: LoadPhase::Starting,
            bytes: 0,
            bytes_total: None,
            reason: None,
            message: String::new(),
            facts: None,
        }
    }
}
