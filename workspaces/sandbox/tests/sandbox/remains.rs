//! The end of a sandbox, however it comes: nothing is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use workspaces_sandbox::{
    Limits, Mount, MountKind, Profile, SandboxError, SandboxSpec, Sandboxes, Stdio,
};

use crate::bench::{Bench, config, exec, exec_spec, spec};
use crate::harness::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("nothing_is_left_after_the_end", leaves_nothing),
        Test::new(
            "nothing_is_left_after_a_failed_start",
            leaves_nothing_after_failure,
        ),
        Test::new("deleting_ends_a_program_that_was_added", deletes_with_execs),
        Test::new("many_are_made_at_once", makes_many),
        Test::new("an_id_is_used_once_at_a_time", refuses_twins),
        Test::new("what_runs_inside_dies_with_its_helper", dies_with_helper),
        Test::new("what_runs_inside_dies_with_its_caller", dies_with_caller),
        Test::new("recovery_ends_what_was_left_behind", recovers),
    ]
}

/// Everything of a sandbox that could stay on a host.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    mounts: usize,
    cgroups: BTreeSet<PathBuf>,
    processes: BTreeSet<String>,
    records: usize,
    namespaces: BTreeSet<PathBuf>,
}

impl Census {
    fn of(bench: &Bench) -> Self {
        let mut cgroups = BTreeSet::new();
        find_cgroups(Path::new("/sys/fs/cgroup"), &bench.id, 0, &mut cgroups);
        let own = std::process::id().to_string();
        let mut census = Self {
            mounts: fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .lines()
                .count(),
            cgroups,
            processes: BTreeSet::new(),
            records: fs::read_dir(bench.state.path().join("running"))
                .unwrap()
                .count(),
            namespaces: BTreeSet::new(),
        };
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .filter(|name| name.parse::<u32>().is_ok())
                .map(str::to_owned)
            else {
                continue;
            };
            if is_below(&pid, &own) {
                census.processes.insert(pid);
                census
                    .namespaces
                    .extend(fs::read_link(entry.path().join("ns/net")));
            }
        }
        census
    }
}

/// Ours only: other tests and nodes of this machine have theirs beside them.
fn find_cgroups(folder: &Path, id: &str, depth: usize, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if depth > 6 || !path.is_dir() || path.is_symlink() {
            continue;
        }
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(id))
        {
            found.insert(path.clone());
        }
        find_cgroups(&path, id, depth + 1, found);
    }
}

fn is_below(pid: &str, ancestor: &str) -> bool {
    let mut pid = pid.to_owned();
    for _ in 0..64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some(parent) = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1))
        else {
            return false;
        };
        if parent == ancestor {
            return true;
        }
        parent.clone_into(&mut pid);
    }
    false
}

fn leaves_nothing() {
    let bench = Bench::hard();
    let before = Census::of(&bench);
    let limits = Limits {
        cpu_millis: Some(500),
        memory_bytes: Some(64 << 20),
        pids: Some(64),
    };
    let busy = SandboxSpec {
        limits,
        command: spec(
            "",
            &[
                "sh",
                "-c",
                "(setsid sh -c 'sleep 1000 & sleep 1000' &) ; while :; do :; done",
            ],
        )
        .command,
        ..spec(&bench.id, &[])
    };
    for end in ["delete", "kill", "exit"] {
        let sandbox = bench
            .sandboxes
            .create(busy.clone(), &Stdio::null().unwrap())
            .unwrap();
        sandbox.start().unwrap();
        let during = Census::of(&bench);
        assert!(
            during.processes.len() > before.processes.len()
                && during.cgroups.len() >= 3
                && during.records == 1,
            "{during:?}"
        );
        assert_eq!(
            during.mounts, before.mounts,
            "a mount of the sandbox is seen outside"
        );
        match end {
            "delete" => sandbox.delete(),
            "kill" => {
                sandbox.kill_all().unwrap();
                assert_eq!(sandbox.wait().unwrap().signal, Some(9));
                sandbox.delete();
            }
            _ => {
                assert_eq!(exec(&sandbox, &["true"]).status.code, 0);
                drop(sandbox);
            }
        }
        assert_eq!(Census::of(&bench), before, "after {end}");
    }
}

fn leaves_nothing_after_failure() {
    let bench = Bench::hard();
    let before = Census::of(&bench);
    assert!(
        bench
            .try_run(spec(&bench.id, &["no-such-program"]))
            .is_err()
    );
    assert_eq!(Census::of(&bench), before);
    let missing = Mount {
        target: PathBuf::from("/work"),
        kind: MountKind::Bind {
            source: "/no/such/place".into(),
            writable: true,
        },
    };
    let outcome = bench.try_run(SandboxSpec {
        mounts: vec![missing],
        ..spec(&bench.id, &["true"])
    });
    assert!(
        matches!(outcome, Err(SandboxError::Helper { .. })),
        "{outcome:?}"
    );
    assert_eq!(Census::of(&bench), before);
}

fn deletes_with_execs() {
    let bench = Bench::hard();
    let sandbox = bench.idle(spec("a", &[]));
    let process = sandbox
        .exec(exec_spec(&["sleep", "1000"]), &Stdio::null().unwrap())
        .unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    sandbox.delete();
    assert_eq!(process.wait().unwrap().signal, Some(9));
}

fn makes_many() {
    let bench = Arc::new(Bench::hard());
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let bench = Arc::clone(&bench);
            std::thread::spawn(move || {
                for round in 0..4 {
                    let id = format!("{thread}-{round}");
                    let outcome = bench.run(spec(
                        &id,
                        &["sh", "-c", &format!("echo {id}; cat /proc/self/uid_map")],
                    ));
                    assert!(outcome.stdout.starts_with(&id), "{outcome:?}");
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

fn refuses_twins() {
    let bench = Bench::hard();
    let sandbox = bench.idle(spec("a", &[]));
    let twin = bench
        .sandboxes
        .create(spec("a", &["true"]), &Stdio::null().unwrap());
    assert!(matches!(twin, Err(SandboxError::Exists { .. })), "{twin:?}");
    assert_eq!(sandbox.try_wait().unwrap(), None, "the first one goes on");
    sandbox.delete();
    assert_eq!(bench.run(spec("a", &["true"])).status.code, 0);
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

fn wait_for_end(pid: u32) {
    let until = Instant::now() + Duration::from_secs(5);
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < until, "{pid} goes on");
        std::thread::yield_now();
    }
}

fn dies_with_helper() {
    let bench = Bench::hard();
    let sandbox = bench.idle(spec("a", &[]));
    let pid = sandbox.process().pid();
    let later = sandbox
        .exec(exec_spec(&["sleep", "1000"]), &Stdio::null().unwrap())
        .unwrap();
    kill(parent_of(pid));
    assert_eq!(sandbox.wait().unwrap().signal, Some(9));
    wait_for_end(pid);
    wait_for_end(later.pid());
}

/// A caller that makes a sandbox in a folder, says so, and waits to be killed.
pub(crate) fn caller(state: &str, id: &str) {
    let sandboxes = Sandboxes::new(config(Path::new(state), Profile::hard())).unwrap();
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    };
    let sandbox = sandboxes
        .create(
            SandboxSpec {
                limits,
                ..spec(id, &["sleep", "1000"])
            },
            &Stdio::null().unwrap(),
        )
        .unwrap();
    sandbox.start().unwrap();
    println!("{}", sandbox.process().pid());
    std::thread::park();
}

fn start_caller(bench: &Bench) -> (std::process::Child, u32) {
    let mut caller = Command::new(std::env::current_exe().unwrap())
        .args(["caller", bench.state.path().to_str().unwrap(), &bench.id])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = caller.stdout.take().unwrap();
    while !line.ends_with('\n') {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        line.push(byte[0].into());
    }
    (caller, line.trim().parse().unwrap())
}

fn dies_with_caller() {
    let bench = Bench::hard();
    let before = Census::of(&bench);
    let (mut caller, pid) = start_caller(&bench);
    let helper = parent_of(pid);
    kill(caller.id());
    caller.wait().unwrap();
    wait_for_end(pid);
    wait_for_end(helper);
    let after = Census::of(&bench);
    assert_eq!(
        (after.cgroups, after.processes, after.mounts),
        (before.cgroups, before.processes, before.mounts)
    );
    assert_eq!(
        bench.sandboxes.recover().unwrap(),
        std::slice::from_ref(&bench.id)
    );
    assert_eq!(bench.sandboxes.recover().unwrap(), Vec::<String>::new());
}

/// Caller and helper killed at once, as by the kernel when memory runs out.
fn recovers() {
    let bench = Bench::hard();
    let before = Census::of(&bench);
    let (mut caller, pid) = start_caller(&bench);
    let helper = parent_of(pid);
    kill(helper);
    kill(caller.id());
    caller.wait().unwrap();
    wait_for_end(pid);
    let left = Census::of(&bench);
    assert!(
        !left.cgroups.is_empty() && left.records == 1,
        "nothing to recover: {left:?}"
    );
    assert_eq!(
        bench.sandboxes.recover().unwrap(),
        std::slice::from_ref(&bench.id)
    );
    assert_eq!(Census::of(&bench), before);
    assert_eq!(bench.run(spec(&bench.id, &["true"])).status.code, 0);
}
