//! Reaping: what programs leave behind becomes a child of process 1 and must not stay as a zombie.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use workspaces_sandbox::confine::{children_of, kill_tree};

/// Which children are somebody's to reap; all others are orphans.
#[derive(Debug, Clone)]
pub(super) struct Orphans {
    adopts: bool,
    claimed: Arc<Mutex<BTreeSet<u32>>>,
    freed: Arc<Notify>,
}

impl Orphans {
    /// For process 1.
    pub(super) fn adopting() -> Self {
        Self {
            adopts: true,
            claimed: Arc::default(),
            freed: Arc::default(),
        }
    }

    /// For tests, whose process has children that are not ours.
    #[cfg(test)]
    pub(super) fn ignoring() -> Self {
        Self {
            adopts: false,
            ..Self::adopting()
        }
    }

    /// Starts a child and claims it before it can be taken for an orphan.
    pub(super) fn claim<T, E>(
        &self,
        start: impl FnOnce() -> Result<T, E>,
        id: impl FnOnce(&T) -> u32,
    ) -> Result<T, E> {
        let mut claimed = self.claimed.lock();
        let child = start()?;
        claimed.insert(id(&child));
        Ok(child)
    }

    /// Says that a claimed child was reaped.
    pub(super) fn release(&self, id: u32) {
        self.claimed.lock().remove(&id);
        self.freed.notify_one();
    }

    /// Reaps orphans until shutdown.
    pub(super) fn reap(self, shutdown: CancellationToken) -> io::Result<impl Future<Output = ()>> {
        let mut ended = signal(SignalKind::child())?;
        Ok(async move {
            loop {
                if self.adopts {
                    self.reap_ready();
                }
                tokio::select! {
                    _ = ended.recv() => {}
                    () = self.freed.notified() => {}
                    () = shutdown.cancelled() => return,
                }
            }
        })
    }

    /// Kills all orphans and what is below them.
    pub(super) fn sweep(&self) {
        if !self.adopts {
            return;
        }
        let claimed = self.claimed.lock();
        for child in children_of(std::process::id()) {
            if !claimed.contains(&child) {
                tracing::warn!(
                    pid = child,
                    "an orphan is killed: a program killed its keeper"
                );
                kill_tree(child);
            }
        }
    }

    fn reap_ready(&self) {
        let claimed = self.claimed.lock();
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Some(pid) = waitid(Id::All, look).ok().and_then(|status| status.pid()) {
            // A claimed one hides those behind it only until it is reaped and released.
            let is_claimed = claimed.contains(&pid.as_raw().unsigned_abs());
            if is_claimed || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
                return;
            }
        }
    }
}
