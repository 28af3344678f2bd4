//! Without root: a user namespace of one id, and the same containment but for shifted ids and limits.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use workspaces_sandbox::{Mount, MountKind, Profile, SandboxSpec, Sandboxes, Stdio};

use crate::attacker::Outcome;
use crate::bench::{Streams, config, exec_spec, spec};
use crate::harness::Test;

/// Nobody's user, as far as this host knows.
const UID: u32 = 54_321;
/// Attacks that need no shifted ids and no limits to be stopped.
const ATTACKS: [&str; 14] = [
    "read_shadow_of_the_host",
    "write_root_file_system",
    "write_core_pattern",
    "make_block_device",
    "mount_memory",
    "remount_root_writable",
    "change_root",
    "make_user_namespace",
    "clone3_user_namespace",
    "add_kernel_key",
    "open_vsock",
    "trace_a_process",
    "route_to_internet",
    "dump_core",
];

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new(
        "without_root_programs_are_contained_too_and_what_is_not_is_said",
        without_root,
    )]
}

/// Runs [`child`] as another user, from a folder that this user may enter.
fn without_root() {
    if !rustix::process::geteuid().is_root() {
        assert_eq!(child(), ExitCode::SUCCESS);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [dir.path(), &program] {
        std::os::unix::fs::chown(path, Some(UID), Some(UID)).unwrap();
    }
    let output = Command::new(&program)
        .arg("rootless-child")
        .env("TMPDIR", dir.path())
        .env("RUST_BACKTRACE", "0")
        .current_dir(dir.path())
        .uid(UID)
        .gid(UID)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{told}");
    assert!(output.status.success(), "{told}");
}

/// Makes sandboxes as whoever runs it.
pub(crate) fn child() -> ExitCode {
    let (state, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sandboxes = Sandboxes::new(config(state.path(), Profile::hard())).unwrap();
    let isolation = sandboxes.isolation();
    println!("{isolation:?}");
    assert!(!isolation.root && isolation.is_enough(), "{isolation:?}");
    let tells_ids = isolation
        .missing
        .iter()
        .any(|line| line.contains("range of user ids"));
    assert!(tells_ids, "{isolation:?}");
    let script = "echo text > /work/a && cat /work/a && id -u && grep CapEff /proc/self/status";
    let outcome = run(&sandboxes, home.path(), &["sh", "-c", script]);
    assert_eq!(
        outcome.stdout, "text\n0\nCapEff:\t0000000000000000\n",
        "{outcome:?}"
    );
    for attack in ATTACKS {
        let outcome = run(
            &sandboxes,
            home.path(),
            &["/attacker", "attack", attack, ""],
        );
        assert_eq!(
            outcome.status.code,
            Outcome::STOPPED,
            "{attack}: {outcome:?}"
        );
    }
    joins(&sandboxes, home.path());
    ExitCode::SUCCESS
}

/// A program that joins is contained without root too.
fn joins(sandboxes: &Sandboxes, home: &Path) {
    let sandbox = sandboxes
        .create(
            with_attacker("b", home, &["sleep", "1000"]),
            &Stdio::null().unwrap(),
        )
        .unwrap();
    sandbox.start().unwrap();
    assert!(!sandbox.missing().is_empty());
    let streams = Streams::new();
    let attack = exec_spec(&["/attacker", "attack", "make_user_namespace"]);
    let process = sandbox.exec(attack, &streams.stdio).unwrap();
    let outcome = streams.finish(|| process.wait().unwrap());
    assert_eq!(outcome.status.code, Outcome::STOPPED, "{outcome:?}");
}

fn run(sandboxes: &Sandboxes, home: &Path, command: &[&str]) -> crate::bench::Outcome {
    let streams = Streams::new();
    let sandbox = sandboxes
        .create(with_attacker("a", home, command), &streams.stdio)
        .unwrap();
    sandbox.start().unwrap();
    streams.finish(|| sandbox.wait().unwrap())
}

fn with_attacker(id: &str, home: &Path, command: &[&str]) -> SandboxSpec {
    let bind = |target: &str, source: PathBuf, writable| Mount {
        target: target.into(),
        kind: MountKind::Bind { source, writable },
    };
    SandboxSpec {
        mounts: vec![
            bind("/attacker", std::env::current_exe().unwrap(), false),
            bind("/work", home.to_owned(), true),
        ],
        ..spec(id, command)
    }
}
