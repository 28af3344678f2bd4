//! What is done to confine a sandbox, as switches.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// One thing that stands between a program inside and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Defence {
    /// Users inside are nobody outside.
    UserNamespace,
    /// No network but a loopback of its own.
    NetworkNamespace,
    /// Processes outside are not visible.
    PidNamespace,
    /// System V and POSIX queues and shared memory are its own.
    IpcNamespace,
    /// A root file system of its own instead of the host's.
    OwnRootfs,
    /// That root is read-only.
    ReadonlyRootfs,
    /// Parts of `/proc` that tell about the host are covered.
    MaskedPaths,
    /// Parts of `/proc` that change the host are read-only.
    ReadonlyPaths,
    /// No capability at all.
    NoCapabilities,
    /// Set-user-id programs and file capabilities give nothing.
    NoNewPrivileges,
    /// Only known system calls, sockets of few families.
    Seccomp,
    /// A Landlock domain around the programs.
    Landlock,
    /// A limit on memory.
    MemoryLimit,
    /// A limit on processes.
    PidsLimit,
    /// A limit on processor time.
    CpuLimit,
    /// Limits on open files, core dumps, locked memory and queues.
    Rlimits,
}

/// The defences that are on.
///
/// There is one product profile, [`Profile::hard`]; anything weaker exists so that tests can prove that an attack works
/// without the defence which stops it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    off: BTreeSet<Defence>,
}

impl Profile {
    /// Everything is on.
    pub fn hard() -> Self {
        Self::default()
    }

    /// The hard profile with some defences off; for tests that prove what stops an attack.
    pub fn without(defences: &[Defence]) -> Self {
        Self {
            off: defences.iter().copied().collect(),
        }
    }

    /// Whether a defence is on.
    pub fn has(&self, defence: Defence) -> bool {
        !self.off.contains(&defence)
    }
}
