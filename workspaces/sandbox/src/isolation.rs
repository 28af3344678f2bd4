//! What this host can isolate, found out by trying.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::SandboxError;
use crate::plan::{Reply, Request};
use crate::process::{HelperChild, reply};

/// The process that makes sandboxes: an executable whose `main` calls [`crate::helper_main`] before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// The executable.
    pub program: PathBuf,
    /// The arguments that make it call [`crate::helper_main`], as `sandbox-helper`.
    pub args: Vec<OsString>,
}

/// What this host can isolate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Whether user ids can be shifted, which needs root.
    pub root: bool,
    /// Users inside are nobody outside.
    pub user_namespace: bool,
    /// Mount, process, message queue and host name namespaces.
    pub other_namespaces: bool,
    /// A network of its own.
    pub network_namespace: bool,
    /// A `/proc` of its own.
    pub own_proc: bool,
    /// The limits that can be set, as `v2:memory`.
    pub cgroups: Vec<String>,
    /// System call filters.
    pub seccomp: bool,
    /// The version of Landlock; 0 if there is none.
    pub landlock_abi: u32,
    /// What is missing and how to get it.
    pub missing: Vec<String>,
}

/// Finds out what this host can isolate by having a helper try.
///
/// # Errors
/// The helper does not answer.
pub fn probe(helper: &Helper) -> Result<Isolation, SandboxError> {
    let (_helper, control) = HelperChild::ask(helper, &Request::Probe, &[])?;
    match reply(&control)? {
        (Reply::Isolation(isolation), _) => Ok(*isolation),
        _ => Err(SandboxError::Helper {
            step: "probe the host".to_owned(),
            reason: "it said something unexpected".to_owned(),
        }),
    }
}

impl Isolation {
    /// Whether programs of strangers may run here: namespaces and system call filters. Limits and Landlock are told
    /// as missing but not refused.
    pub fn is_enough(&self) -> bool {
        self.user_namespace
            && self.other_namespaces
            && self.network_namespace
            && self.own_proc
            && self.seccomp
    }

    /// What holds for every sandbox, in words.
    pub fn enforced(&self) -> Vec<String> {
        let claims = [
            (self.user_namespace && self.root, "user-namespace:own-ids"),
            (
                self.user_namespace && !self.root,
                "user-namespace:single-id",
            ),
            (self.other_namespaces, "namespaces:mount,pid,ipc,uts,cgroup"),
            (self.network_namespace, "network-namespace"),
            (self.seccomp, "seccomp"),
            (true, "no-capabilities"),
            (true, "no-new-privs"),
            (true, "readonly-rootfs"),
        ];
        let mut enforced: Vec<String> = claims
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, claim)| claim.to_owned())
            .collect();
        if self.landlock_abi > 0 {
            enforced.push(format!("landlock:abi-{}", self.landlock_abi));
        }
        enforced
    }
}
