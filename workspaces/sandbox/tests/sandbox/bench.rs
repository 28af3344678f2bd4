//! A workbench: sandboxes with this executable as helper, and their output.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use workspaces_sandbox::{
    Defence, ExecSpec, ExitStatus, Helper, Profile, Rootfs, Sandbox, SandboxError, SandboxSpec,
    Sandboxes, SandboxesConfig, Stdio,
};

/// Sandboxes of one test.
pub(crate) struct Bench {
    pub sandboxes: Sandboxes,
    pub state: TempDir,
    /// An id that no other test of this machine uses.
    pub id: String,
}

/// What a program wrote and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Standard streams whose other ends are held here.
pub(crate) struct Streams {
    pub stdio: Stdio,
    pub stdout: File,
    pub stderr: File,
}

impl Bench {
    pub(crate) fn hard() -> Self {
        Self::without(&[])
    }

    pub(crate) fn without(defences: &[Defence]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::new(config(state.path(), Profile::without(defences))).unwrap();
        assert!(
            sandboxes.isolation().is_enough(),
            "this host cannot isolate, so nothing can be proven here: {:?}",
            sandboxes.isolation().missing
        );
        Self {
            sandboxes,
            state,
            id: format!("census-{}", std::process::id()),
        }
    }

    /// Runs a program as the first process of a new sandbox to its end.
    pub(crate) fn run(&self, spec: SandboxSpec) -> Outcome {
        self.try_run(spec).unwrap()
    }

    pub(crate) fn try_run(&self, spec: SandboxSpec) -> Result<Outcome, SandboxError> {
        let streams = Streams::new();
        let sandbox = self.sandboxes.create(spec, &streams.stdio)?;
        sandbox.start()?;
        Ok(streams.finish(|| sandbox.wait().unwrap()))
    }

    /// A sandbox whose first process does nothing.
    pub(crate) fn idle(&self, spec: SandboxSpec) -> Sandbox {
        let spec = SandboxSpec {
            command: words(&["sleep", "1000"]),
            ..spec
        };
        let sandbox = self
            .sandboxes
            .create(spec, &Stdio::null().unwrap())
            .unwrap();
        sandbox.start().unwrap();
        sandbox
    }
}

impl Streams {
    pub(crate) fn new() -> Self {
        let (stdout, write_stdout) = pipe();
        let (stderr, write_stderr) = pipe();
        Self {
            stdio: Stdio {
                stdin: File::open("/dev/null").unwrap().into(),
                stdout: write_stdout,
                stderr: write_stderr,
            },
            stdout,
            stderr,
        }
    }

    /// Reads to the end of both streams, then waits.
    pub(crate) fn finish(self, wait: impl FnOnce() -> ExitStatus) -> Outcome {
        let Self {
            stdio,
            stdout,
            stderr,
        } = self;
        drop(stdio);
        let errors = std::thread::spawn(move || read(stderr));
        let stdout = read(stdout);
        Outcome {
            status: wait(),
            stdout,
            stderr: errors.join().unwrap(),
        }
    }
}

pub(crate) fn exec(sandbox: &Sandbox, command: &[&str]) -> Outcome {
    let streams = Streams::new();
    let process = sandbox.exec(exec_spec(command), &streams.stdio).unwrap();
    streams.finish(|| process.wait().unwrap())
}

pub(crate) fn exec_spec(command: &[&str]) -> ExecSpec {
    ExecSpec {
        command: words(command),
        env: env(),
        cwd: PathBuf::from("/"),
        terminal: false,
    }
}

pub(crate) fn config(state: &Path, profile: Profile) -> SandboxesConfig {
    SandboxesConfig {
        state_dir: state.to_owned(),
        helper: Helper {
            program: std::env::current_exe().unwrap(),
            args: vec!["sandbox-helper".into()],
        },
        profile,
    }
}

pub(crate) fn spec(id: &str, command: &[&str]) -> SandboxSpec {
    SandboxSpec {
        id: id.to_owned(),
        rootfs: Rootfs::HostUsr,
        command: words(command),
        env: env(),
        ..SandboxSpec::default()
    }
}

pub(crate) fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

fn env() -> BTreeMap<String, String> {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
        ("HOME", "/tmp"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn pipe() -> (File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (File::from(read), write)
}

fn read(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
