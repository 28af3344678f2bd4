//! The nursery: a thread that has entered the programs' Landlock domain, and forks all of them.
//!
//! A domain is inherited by forking, so programs of one workspace share one only if they have one parent in it: they may
//! signal each other, as a server started earlier that is to be stopped, but not the daemon, whose other threads are outside.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use super::{Birth, Confined, ProgramSpec};
use crate::{SandboxError, Stdio, domain};

struct Job {
    program: ProgramSpec,
    stdio: Stdio,
    answer: SyncSender<Result<Confined, SandboxError>>,
}

/// The thread and the way to it. It ends with this.
#[derive(Debug)]
pub(super) struct Nursery {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Nursery {
    /// Starts the thread, in its domain before anything is born.
    pub(super) fn open(ruleset: Option<OwnedFd>, birth: Birth) -> Result<Self, SandboxError> {
        let (jobs, receiver) = channel();
        let (ready, entered) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("nursery".to_owned())
            .spawn(move || {
                let outcome = enter(ruleset.as_ref());
                let is_in = outcome.is_ok();
                // The opener waits for this word.
                if ready.send(outcome).is_ok() && is_in {
                    work(&receiver, &birth);
                }
            })
            .map_err(SandboxError::io("start the nursery"))?;
        entered
            .recv()
            .map_err(|_| gone())?
            .map_err(SandboxError::io("enter the Landlock domain"))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Has a program started.
    pub(super) fn bear(
        &self,
        program: &ProgramSpec,
        stdio: Stdio,
    ) -> Result<Confined, SandboxError> {
        let (answer, born) = sync_channel(1);
        let job = Job {
            program: program.clone(),
            stdio,
            answer,
        };
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(job).map_err(|_| gone())?;
        born.recv().map_err(|_| gone())?
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the nursery panicked");
        }
    }
}

fn enter(ruleset: Option<&OwnedFd>) -> std::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    ruleset.map_or(Ok(()), domain::enter)
}

fn work(jobs: &Receiver<Job>, birth: &Birth) {
    while let Ok(Job {
        program,
        stdio,
        answer,
    }) = jobs.recv()
    {
        if answer.send(birth.give(&program, stdio)).is_err() {
            tracing::warn!("nobody waited for a program that was started");
        }
    }
}

fn gone() -> SandboxError {
    SandboxError::Helper {
        step: "start a program".to_owned(),
        reason: "the thread that starts programs has ended".to_owned(),
    }
}
