//! Conditions: one vocabulary for all kinds.
//!
//! Ready is the AND of the conditions that apply, in order; after the first that does not hold the later ones are
//! Unknown. Reconciling and Stalled are present only while they hold, as kstatus wants.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One observation about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, as Ready.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub kind: String,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// One word for programs that says why.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = "^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9_])?$")
    )]
    pub reason: String,
    /// A sentence for people: what is so, and what to do about it.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: Time,
    /// The generation of the object that was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can say yet.
    Unknown,
}

impl ConditionStatus {
    /// The word as it stands in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The types of conditions, in the order in which they are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionKind {
    /// The specification is understood and allowed.
    Accepted,
    /// Every reference exists and is permitted.
    ResolvedRefs,
    /// A Model's weights are there and verified.
    ArtifactReady,
    /// Every ready data plane acknowledged this generation.
    Programmed,
    /// A Workspace's volume is there.
    StorageReady,
    /// A Workspace's network policy is applied.
    NetworkEnforced,
    /// A Workspace's programs are confined.
    Isolated,
    /// It can serve now.
    Available,
    /// The summary that people and GitOps look at.
    Ready,
    /// Work towards the specification is under way (present only while it is).
    Reconciling,
    /// No progress will be made until somebody acts (present only while it is so).
    Stalled,
}

impl ConditionKind {
    /// The condition's type as it stands in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::ArtifactReady => "ArtifactReady",
            Self::Programmed => "Programmed",
            Self::StorageReady => "StorageReady",
            Self::NetworkEnforced => "NetworkEnforced",
            Self::Isolated => "Isolated",
            Self::Available => "Available",
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// Why a condition is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Accepted: all is well.
    Accepted,
    /// Accepted: a value makes no sense; the message has its path.
    Invalid,
    /// Accepted: another object already has what this one claims.
    Conflict,
    /// ResolvedRefs: all is well.
    ResolvedRefs,
    /// ResolvedRefs: an object that is named does not exist.
    RefNotFound,
    /// ResolvedRefs: a Secret exists without the key that is named.
    SecretKeyMissing,
    /// ArtifactReady: the weights are in the cache, verified.
    Cached,
    /// ArtifactReady: the weights are on their way.
    Downloading,
    /// ArtifactReady: the digest or the format is not what was asked for.
    VerifyFailed,
    /// ArtifactReady: the source refused the credentials.
    SourceUnauthorized,
    /// ArtifactReady: the source cannot be reached; it is tried again.
    SourceUnreachable,
    /// ArtifactReady: the source does not exist or has no such file.
    SourceNotFound,
    /// ArtifactReady: the disk or the memory does not hold the weights.
    InsufficientResources,
    /// ArtifactReady: the engine does not serve this type of file or architecture.
    Unsupported,
    /// Programmed: all ready replicas acknowledged.
    Programmed,
    /// Nothing is known or done yet.
    Pending,
    /// Programmed: some replicas acknowledged.
    PartiallyProgrammed,
    /// Programmed: a replica refused the snapshot.
    Rejected,
    /// StorageReady: the volume is bound.
    Bound,
    /// NetworkEnforced, Isolated: it is enforced.
    Enforced,
    /// NetworkEnforced, Isolated: it is not enforced.
    NotEnforced,
    /// NetworkEnforced, Isolated: nobody reports whether it is.
    Unverified,
    /// Available: enough replicas serve.
    MinimumReplicasAvailable,
    /// Available: too few replicas serve.
    MinimumReplicasUnavailable,
    /// Available, Ready: no replica is wanted.
    ScaledToZero,
    /// Available, Ready: it is stopped, as wanted.
    Stopped,
    /// Available: a workspace that is used does not run.
    WorkspaceUnavailable,
    /// Ready: all is well.
    Ready,
    /// Ready, Reconciling: work is under way.
    Progressing,
    /// Stalled: no progress within the deadline.
    ProgressDeadlineExceeded,
    /// Later conditions: an earlier one does not hold.
    Blocked,
}

impl Reason {
    /// The reason as it stands in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Invalid => "Invalid",
            Self::Conflict => "Conflict",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::RefNotFound => "RefNotFound",
            Self::SecretKeyMissing => "SecretKeyMissing",
            Self::Cached => "Cached",
            Self::Downloading => "Downloading",
            Self::VerifyFailed => "VerifyFailed",
            Self::SourceUnauthorized => "SourceUnauthorized",
            Self::SourceUnreachable => "SourceUnreachable",
            Self::SourceNotFound => "SourceNotFound",
            Self::InsufficientResources => "InsufficientResources",
            Self::Unsupported => "Unsupported",
            Self::Programmed => "Programmed",
            Self::Pending => "Pending",
            Self::PartiallyProgrammed => "PartiallyProgrammed",
            Self::Rejected => "Rejected",
            Self::Bound => "Bound",
            Self::Enforced => "Enforced",
            Self::NotEnforced => "NotEnforced",
            Self::Unverified => "Unknown",
            Self::MinimumReplicasAvailable => "MinimumReplicasAvailable",
            Self::MinimumReplicasUnavailable => "MinimumReplicasUnavailable",
            Self::ScaledToZero => "ScaledToZero",
            Self::Stopped => "Stopped",
            Self::WorkspaceUnavailable => "WorkspaceUnavailable",
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Self::Blocked => "Blocked",
        }
    }
}

/// Finds a condition by its type.
pub fn find(conditions: &[Condition], kind: ConditionKind) -> Option<&Condition> {
    conditions
        .iter()
        .find(|condition| condition.kind == kind.as_str())
}

/// Whether the object is Ready.
pub fn is_ready(conditions: &[Condition]) -> bool {
    find(conditions, ConditionKind::Ready)
        .is_some_and(|condition| condition.status == ConditionStatus::True)
}

/// The observed generation of an object that nobody has looked at.
pub(crate) const fn unobserved() -> i64 {
    -1
}
