//! All sandboxes of one caller: create, exec, recover.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::{self, Hierarchy, Wants};
use crate::ids::IdLedger;
use crate::plan::{Command, ExecPlan, Identity, Reply, Request, RunPlan};
use crate::process::{ExitStatus, HelperChild, Process, reply};
use crate::record::{ProcessMark, Record, boot_id};
use crate::{
    Defence, ExecSpec, Helper, Isolation, MountKind, Profile, SandboxError, SandboxSpec, Stdio,
    probe, seccomp, wire,
};

/// Where sandboxes are kept and who makes them.
#[derive(Debug, Clone)]
pub struct SandboxesConfig {
    /// A folder of the caller's own, for records and the ledger of ids. It must not be reachable from any sandbox.
    pub state_dir: PathBuf,
    /// The process that makes them.
    pub helper: Helper,
    /// What is done to confine them; anything but [`Profile::hard`] is for tests.
    pub profile: Profile,
}

/// All sandboxes of one caller.
#[derive(Debug)]
pub struct Sandboxes {
    config: SandboxesConfig,
    isolation: Isolation,
    hierarchy: Hierarchy,
    ids: IdLedger,
    /// Tells the cgroups of callers on one host apart.
    instance: String,
}

/// A sandbox. Dropping it ends it and removes everything of it.
#[derive(Debug)]
pub struct Sandbox {
    process: Process,
    id: String,
    spec: SandboxSpec,
    identity: Identity,
    cgroups: Vec<PathBuf>,
    enforced: Vec<String>,
    missing: Vec<String>,
    config: SandboxesConfig,
    seccomp: Vec<u64>,
}

impl Sandboxes {
    /// Finds out what this host can isolate and opens the state folder.
    ///
    /// # Errors
    /// The folder cannot be made or the helper does not answer.
    pub fn new(config: SandboxesConfig) -> Result<Self, SandboxError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(records_dir(&config.state_dir))
            .map_err(SandboxError::io(format!(
                "make {}",
                config.state_dir.display()
            )))?;
        let isolation = probe(&config.helper)?;
        let state_dir = config
            .state_dir
            .canonicalize()
            .map_err(SandboxError::io("resolve the state folder"))?;
        Ok(Self {
            ids: IdLedger::new(config.state_dir.join("ids.json")),
            hierarchy: Hierarchy::detect(),
            instance: instance_name(&state_dir),
            isolation,
            config,
        })
    }

    /// What this host can isolate.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Makes a sandbox whose first process waits for [`Sandbox::start`].
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] and [`SandboxError::Exists`] are the caller's, [`SandboxError::NotIsolated`] the host's;
    /// after any error nothing is left.
    pub fn create(&self, spec: SandboxSpec, stdio: &Stdio) -> Result<Sandbox, SandboxError> {
        spec.validate()?;
        if !self.isolation.is_enough() {
            return Err(SandboxError::NotIsolated {
                missing: self.isolation.missing.clone(),
            });
        }
        let records = records_dir(&self.config.state_dir);
        if Record::exists(&records, &spec.id) {
            return Err(SandboxError::Exists { id: spec.id });
        }
        let id = spec.id.clone();
        let made = self.create_recorded(spec, stdio, &records);
        if made.is_err() {
            self.forget(&id);
        }
        made
    }

    fn create_recorded(
        &self,
        spec: SandboxSpec,
        stdio: &Stdio,
        records: &Path,
    ) -> Result<Sandbox, SandboxError> {
        let profile = &self.config.profile;
        let (identity, spec) = if self.isolation.root {
            (Identity::Range(self.ids.lend(&spec.id)?), spec)
        } else {
            // The only id that there is inside.
            (
                Identity::Caller,
                SandboxSpec {
                    uid: 0,
                    gid: 0,
                    ..spec
                },
            )
        };
        let cgroup = self.hierarchy.create(
            &format!("{}-{}", self.instance, spec.id),
            &spec.limits,
            &Wants {
                memory: profile.has(Defence::MemoryLimit),
                pids: profile.has(Defence::PidsLimit),
                cpu: profile.has(Defence::CpuLimit),
            },
        )?;
        let mut record = Record {
            id: spec.id.clone(),
            boot: boot_id(),
            helper: None,
            init: None,
            cgroups: cgroup.dirs.clone(),
        };
        record.save(records)?;
        let plan = RunPlan {
            spec,
            profile: profile.clone(),
            identity,
            cgroups: cgroup.dirs.clone(),
            seccomp: seccomp::program()?,
        };
        let made = self.ask_for(plan, stdio, &mut record, records);
        let (process, plan) = match made {
            Ok(made) => made,
            Err(error) => {
                cgroup::remove(&cgroup.dirs);
                return Err(error);
            }
        };
        let mut enforced = self.isolation.enforced();
        enforced.extend(cgroup.enforced);
        let mut missing = self.isolation.missing.clone();
        missing.extend(
            cgroup
                .missing
                .into_iter()
                .filter(|line| !self.isolation.missing.contains(line)),
        );
        Ok(Sandbox {
            process,
            id: plan.spec.id.clone(),
            spec: plan.spec,
            identity,
            cgroups: cgroup.dirs,
            enforced,
            missing,
            config: self.config.clone(),
            seccomp: plan.seccomp,
        })
    }

    /// Starts the helper and waits until the first process exists.
    fn ask_for(
        &self,
        plan: RunPlan,
        stdio: &Stdio,
        record: &mut Record,
        records: &Path,
    ) -> Result<(Process, RunPlan), SandboxError> {
        let request = Request::Run(Box::new(plan));
        let streams = [
            stdio.stdin.as_fd(),
            stdio.stdout.as_fd(),
            stdio.stderr.as_fd(),
        ];
        let (helper, control) = HelperChild::ask(&self.config.helper, &request, &streams)?;
        record.helper = helper.pid().and_then(ProcessMark::of);
        record.save(records)?;
        let (Reply::Created { pid }, descriptors) = reply(&control)? else {
            return Err(unexpected());
        };
        let process = Process::new(helper, control, pid, only(descriptors)?);
        record.init = ProcessMark::of(pid);
        record.save(records)?;
        let Request::Run(plan) = request else {
            return Err(unexpected());
        };
        Ok((process, *plan))
    }

    /// Ends and removes what a killed caller with the same state folder left behind, and says which sandboxes that were.
    ///
    /// Call it before the first [`Sandboxes::create`]: it takes every record for a leftover.
    ///
    /// # Errors
    /// The ledger of ids cannot be written.
    pub fn recover(&self) -> Result<Vec<String>, SandboxError> {
        let records = records_dir(&self.config.state_dir);
        let boot = boot_id();
        let mut ended = Vec::new();
        for record in Record::load_all(&records) {
            if record.boot == boot {
                // The helper first: it cleans up by itself when it can, and it must not outlive what it guards.
                for mark in [record.init, record.helper].into_iter().flatten() {
                    kill_marked(&mark);
                }
                cgroup::remove(&record.cgroups);
            }
            self.forget(&record.id);
            ended.push(record.id);
        }
        Ok(ended)
    }

    fn forget(&self, id: &str) {
        forget(&self.config, id);
    }
}

impl Sandbox {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The first process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What is enforced on programs inside, as `user-namespace`, `seccomp`, `landlock:abi-7`.
    pub fn enforced(&self) -> &[String] {
        &self.enforced
    }

    /// What is not, and why.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Runs the program.
    ///
    /// # Errors
    /// [`SandboxError::Program`] if there is no such program inside.
    pub fn start(&self) -> Result<(), SandboxError> {
        let control = self.process.control();
        wire::send(control, &Command::Start, &[])
            .map_err(SandboxError::io("ask the sandbox helper to start"))?;
        match reply(control)? {
            (Reply::Started { .. }, _) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Waits for the end of the first process and of all others.
    ///
    /// # Errors
    /// The control socket cannot be read.
    pub fn wait(&self) -> Result<ExitStatus, SandboxError> {
        self.process.wait()
    }

    /// Says how the first process ended, if it did.
    ///
    /// # Errors
    /// The control socket cannot be read.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, SandboxError> {
        self.process.try_wait()
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        self.process.signal(signal)
    }

    /// Kills every process inside.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_all(&self) -> Result<(), SandboxError> {
        // The first process is the pid namespace's own: the kernel kills the others with it.
        self.process.signal(rustix::process::Signal::KILL.as_raw())
    }

    /// Starts one more program inside, as contained as the first one.
    ///
    /// # Errors
    /// [`SandboxError::Program`] if there is no such program inside, [`SandboxError::Helper`] if the sandbox has ended.
    pub fn exec(&self, spec: ExecSpec, stdio: &Stdio) -> Result<Process, SandboxError> {
        spec.validate()?;
        let writable = self.spec.mounts.iter().filter(|mount| match mount.kind {
            MountKind::Bind { writable, .. } => writable,
            MountKind::Tmpfs { .. } => true,
        });
        let plan = ExecPlan {
            spec,
            profile: self.config.profile.clone(),
            identity: self.identity,
            uid: self.spec.uid,
            gid: self.spec.gid,
            writable: writable.map(|mount| mount.target.clone()).collect(),
            cgroups: self.cgroups.clone(),
            seccomp: self.seccomp.clone(),
        };
        let descriptors = [
            stdio.stdin.as_fd(),
            stdio.stdout.as_fd(),
            stdio.stderr.as_fd(),
            self.process.pidfd(),
        ];
        let (helper, control) = HelperChild::ask(
            &self.config.helper,
            &Request::Exec(Box::new(plan)),
            &descriptors,
        )?;
        let (Reply::Started { pid }, descriptors) = reply(&control)? else {
            return Err(unexpected());
        };
        Ok(Process::new(helper, control, pid, only(descriptors)?))
    }

    /// Ends it and waits until nothing of it is left: no process, mount, namespace, cgroup or id.
    pub fn delete(self) {
        drop(self);
    }
}

impl AsFd for Sandbox {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.process.end();
        cgroup::remove(&self.cgroups);
        forget(&self.config, &self.id);
    }
}

fn forget(config: &SandboxesConfig, id: &str) {
    Record::remove(&records_dir(&config.state_dir), id);
    if let Err(error) = IdLedger::new(config.state_dir.join("ids.json")).take_back(id) {
        tracing::warn!(sandbox = id, %error, "user ids not taken back");
    }
}

fn kill_marked(mark: &ProcessMark) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Some(pid) = i32::try_from(mark.pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    // First the descriptor, then the look: so the process that is looked at is the one that is killed.
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if !mark.is_alive() {
        return;
    }
    if let Err(error) = pidfd_send_signal(&pidfd, Signal::KILL) {
        tracing::warn!(pid = mark.pid, %error, "leftover not killed");
        return;
    }
    if !crate::process::ends_soon(&pidfd, Duration::from_secs(5)) {
        tracing::warn!(pid = mark.pid, "leftover does not end");
    }
}

fn records_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("running")
}

/// A short name for a state folder.
fn instance_name(state_dir: &Path) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    state_dir.hash(&mut hasher);
    format!("{:08x}", hasher.finish() & 0xffff_ffff)
}

fn only(descriptors: Vec<OwnedFd>) -> Result<OwnedFd, SandboxError> {
    descriptors.into_iter().next().ok_or_else(unexpected)
}

fn unexpected() -> SandboxError {
    SandboxError::Helper {
        step: "answer".to_owned(),
        reason: "it said something unexpected".to_owned(),
    }
}
