//! An isolated place with processes in it: namespaces, cgroups, seccomp, Landlock.
//!
//! Invariants:
//! - The calling process never runs libcontainer and never changes its own namespaces: every operation that does is a
//!   request to a single-threaded helper process (the same executable, see [`helper_main`]).
//! - A sandbox lives as long as its helper: if the caller dies, the helper sees its control socket close, kills what runs
//!   inside and removes the cgroups; if the helper dies, the kernel kills what runs inside. [`Sandboxes::recover`] is the
//!   broom for a machine on which both were killed.
//! - No mount, network namespace or file of a sandbox is visible to the host: all of it lives in the helper's own mount
//!   namespace and ends with it.
//! - Programs are added only by [`Sandbox::exec`], which joins every namespace (the user namespace too), the cgroups, the
//!   seccomp filter and the Landlock domain.
#![expect(
    unsafe_code,
    reason = "namespaces, seccomp and fork have no safe interface; every block says why it is sound"
)]

mod cgroup;
pub mod confine;
mod descriptors;
mod domain;
mod error;
mod helper;
mod ids;
mod isolation;
mod plan;
mod process;
mod profile;
mod record;
mod sandboxes;
mod seccomp;
mod spec;
mod wire;

pub use error::SandboxError;
pub use helper::helper_main;
pub use isolation::{Helper, Isolation, probe};
pub use process::{ExitStatus, Process};
pub use profile::{Defence, Profile};
pub use sandboxes::{Sandbox, Sandboxes, SandboxesConfig};
pub use spec::{ExecSpec, Limits, Mount, MountKind, Rlimit, Rootfs, SandboxSpec, Stdio};
