//! What a caller asks its helper, and what the helper says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::IdRange;
use crate::isolation::Isolation;
use crate::process::ExitStatus;
use crate::{ExecSpec, Profile, SandboxSpec};

/// The first message to a helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Try what this host can do.
    Probe,
    /// Make a sandbox and stay as long as it lives. Descriptors: standard streams.
    Run(Box<RunPlan>),
    /// Start one more program in a sandbox and stay as long as it lives. Descriptors: standard streams, the first process.
    Exec(Box<ExecPlan>),
}

/// A sandbox, with everything decided.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunPlan {
    pub spec: SandboxSpec,
    pub profile: Profile,
    pub identity: Identity,
    /// Directories of the sandbox's cgroups, one per hierarchy; they exist.
    pub cgroups: Vec<PathBuf>,
    /// The seccomp program, one number an instruction.
    pub seccomp: Vec<u64>,
}

/// One more program, with everything decided.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    pub spec: ExecSpec,
    pub profile: Profile,
    pub identity: Identity,
    pub uid: u32,
    pub gid: u32,
    pub writable: Vec<PathBuf>,
    pub cgroups: Vec<PathBuf>,
    pub seccomp: Vec<u64>,
}

/// Who users inside are outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Identity {
    /// A range of host ids of its own; needs root.
    Range(IdRange),
    /// The caller, as user 0 inside.
    Caller,
}

/// What the caller says after a sandbox was created.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Run the program.
    Start,
}

/// What a helper says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// What this host can do.
    Isolation(Box<Isolation>),
    /// The first process waits to be started. Descriptor: that process.
    Created { pid: u32 },
    /// The program runs; for an exec, with the descriptor of its process.
    Started { pid: u32 },
    /// The program cannot be run: the caller's fault.
    NoProgram { reason: String },
    /// Something failed; nothing is left behind.
    Failed { step: String, reason: String },
    /// The program ended and everything of it is gone.
    Exited(ExitStatus),
}
