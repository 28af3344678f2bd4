//! What libcontainer calls as the first process, when namespaces, root, user and capabilities are set.

use std::collections::HashMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};

use super::launch::{Launch, tell};

/// Runs a [`Launch`]. libcontainer copies it by value into its processes, so descriptors are plain numbers here.
#[derive(Debug, Clone)]
pub(super) struct LaunchExecutor {
    pub launch: Launch,
    /// Where a failure is told; closed by a successful `execve`.
    pub told: RawFd,
    /// Readable when the helper is gone.
    pub helper_gone: RawFd,
    /// The other end of it, which this process must not hold itself.
    pub helper_alive: RawFd,
}

impl Executor for LaunchExecutor {
    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        // SAFETY: the helper opened these before libcontainer forked and keeps them open until after; in this process,
        // a copy, nothing else uses them.
        // JUSTIFICATION: libcontainer's executor must be cloneable, which an owned descriptor is not.
        let (told, helper_gone) = unsafe {
            drop(OwnedFd::from_raw_fd(self.helper_alive));
            (
                OwnedFd::from_raw_fd(self.told),
                OwnedFd::from_raw_fd(self.helper_gone),
            )
        };
        let error = self.launch.become_program(&helper_gone);
        tell(told.as_fd(), &error);
        Err(ExecutorError::Other(error.to_string()))
    }

    /// Nothing: whether the program exists is seen when it is run.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// Nothing: the environment is given to `execve` as a whole.
    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}
