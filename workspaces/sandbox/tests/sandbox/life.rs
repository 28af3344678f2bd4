//! What a sandbox is for: programs run in it and are limited.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use workspaces_sandbox::{
    Defence, ExitStatus, Limits, Mount, MountKind, Rootfs, SandboxError, SandboxSpec, Stdio,
};

use crate::attacker::Outcome;
use crate::bench::{Bench, exec, exec_spec, spec};
use crate::harness::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("a_program_runs_and_its_output_and_exit_code_arrive", runs),
        Test::new(
            "a_program_that_does_not_exist_is_the_callers_fault",
            refuses_programs,
        ),
        Test::new("a_program_added_later_is_as_contained_as_the_first", execs),
        Test::new("a_writable_volume_belongs_to_the_user_inside", owns_volumes),
        Test::new("a_read_only_bind_cannot_be_written", keeps_binds),
        Test::new("a_small_mount_fills_up_alone", fills_mounts),
        Test::new("an_image_is_a_read_only_root", runs_images),
        Test::new(
            "attack_is_stopped::become_root_by_set_user_id",
            stops_set_user_id,
        ),
        Test::new(
            "no_descriptor_of_the_host_is_inherited",
            leaks_no_descriptors,
        ),
        Test::new(
            "the_environment_is_only_what_was_given",
            leaks_no_environment,
        ),
        Test::new("memory_runs_out_for_the_sandbox_alone", runs_out_of_memory),
        Test::new("a_terminal_is_a_terminal_inside", has_terminal),
    ]
}

fn runs() {
    let outcome = Bench::hard().run(spec(
        "a",
        &["sh", "-c", "id -u; hostname; pwd; echo bad >&2; exit 3"],
    ));
    assert_eq!(
        outcome.status,
        ExitStatus {
            code: 3,
            signal: None,
            out_of_memory: false
        }
    );
    assert_eq!(outcome.stdout, "1000\nworkspace\n/\n");
    assert_eq!(outcome.stderr, "bad\n");
}

fn refuses_programs() {
    let bench = Bench::hard();
    for command in ["no-such-program", "/etc/passwd", "/usr"] {
        let outcome = bench.try_run(spec("a", &[command]));
        assert!(
            matches!(outcome, Err(SandboxError::Program { .. })),
            "{command}: {outcome:?}"
        );
    }
    let sandbox = bench.idle(spec("a", &[]));
    let outcome = sandbox.exec(exec_spec(&["no-such-program"]), &Stdio::null().unwrap());
    assert!(
        matches!(outcome, Err(SandboxError::Program { .. })),
        "{outcome:?}"
    );
    let mut elsewhere = exec_spec(&["true"]);
    elsewhere.cwd = PathBuf::from("/no/such/folder");
    let outcome = sandbox.exec(elsewhere, &Stdio::null().unwrap());
    assert!(
        matches!(outcome, Err(SandboxError::Program { .. })),
        "{outcome:?}"
    );
}

/// The finding that rules libcontainer's own exec out: a process that joined must be in every namespace, filtered, and nobody.
fn execs() {
    const FACTS: &str = "for n in user pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/uid_map; \
         grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status; cat /proc/self/cgroup; ulimit -c";
    let bench = Bench::hard();
    let script = format!("({FACTS}) > /tmp/draft && mv /tmp/draft /tmp/facts; exec sleep 1000");
    let first = SandboxSpec {
        command: spec("", &["sh", "-c", &script]).command,
        ..spec("a", &[])
    };
    let sandbox = bench
        .sandboxes
        .create(first, &Stdio::null().unwrap())
        .unwrap();
    sandbox.start().unwrap();
    let first = "until test -e /tmp/facts; do :; done; cat /tmp/facts";
    let first = exec(&sandbox, &["sh", "-c", first]);
    let later = exec(&sandbox, &["sh", "-c", FACTS]);
    assert_eq!(later.stdout, first.stdout);
    assert!(
        later.stdout.contains("Seccomp:\t2") && later.stdout.contains("NoNewPrivs:\t1"),
        "{later:?}"
    );
    assert!(
        later.stdout.contains("CapBnd:\t0000000000000000"),
        "{later:?}"
    );
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    assert!(
        !later.stdout.contains(own.to_str().unwrap()),
        "it is in the host's user namespace"
    );
}

fn volume(source: &Path, writable: bool) -> Mount {
    Mount {
        target: PathBuf::from("/work"),
        kind: MountKind::Bind {
            source: source.to_owned(),
            writable,
        },
    }
}

fn owns_volumes() {
    let bench = Bench::hard();
    let home = tempfile::tempdir().unwrap();
    let script =
        "echo text > /work/a && mkdir /work/d && stat -c %u:%g /work /work/a && chmod 4755 /work/a";
    let with_home = |id: &str| SandboxSpec {
        mounts: vec![volume(home.path(), true)],
        ..spec(id, &["sh", "-c", script])
    };
    let outcome = bench.run(with_home("a"));
    assert_eq!(
        (outcome.stdout.as_str(), outcome.status.code),
        ("1000:1000\n1000:1000\n", 0),
        "{outcome:?}"
    );
    assert_eq!(fs::metadata(home.path().join("a")).unwrap().uid(), 1000);
    // Another range of ids sees the same owner.
    fs::remove_dir(home.path().join("d")).unwrap();
    let _first_range = bench.idle(spec("first", &[]));
    assert_eq!(bench.run(with_home("b")).stdout, "1000:1000\n1000:1000\n");
}

fn keeps_binds() {
    let bench = Bench::hard();
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a"), "kept").unwrap();
    for uid in [0, 1000] {
        let script = "cat /work/a; echo x > /work/a; rm -f /work/a; touch /work/b";
        let outcome = bench.run(SandboxSpec {
            uid,
            gid: uid,
            mounts: vec![volume(home.path(), false)],
            ..spec("a", &["sh", "-c", script])
        });
        assert!(
            outcome.stdout == "kept" && outcome.status.code != 0,
            "{outcome:?}"
        );
    }
    assert_eq!(fs::read_to_string(home.path().join("a")).unwrap(), "kept");
}

fn fills_mounts() {
    let small = Mount {
        target: PathBuf::from("/small"),
        kind: MountKind::Tmpfs { bytes_max: 1 << 20 },
    };
    let script =
        "head -c 5000000 /dev/zero > /small/a; stat -c %s /small/a; echo ok > /tmp/b && cat /tmp/b";
    let outcome = Bench::hard().run(SandboxSpec {
        mounts: vec![small],
        ..spec("a", &["sh", "-c", script])
    });
    assert!(
        outcome.stdout == "1048576\nok\n" && outcome.stderr.contains("No space left"),
        "{outcome:?}"
    );
}

/// An image with nothing but this executable, set-user-id root, and what it needs to start.
fn image() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let needed = Command::new("ldd").arg(&own).output().unwrap();
    let needed = String::from_utf8(needed.stdout).unwrap();
    for library in needed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let copy = dir.path().join(&library[1..]);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(library, copy).unwrap();
    }
    let attacker = dir.path().join("attacker");
    fs::copy(&own, &attacker).unwrap();
    fs::set_permissions(&attacker, fs::Permissions::from_mode(0o4755)).unwrap();
    // What a mount must not follow out of the image.
    std::os::unix::fs::symlink("/", dir.path().join("work")).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn in_image(image: &Path, attack: &str) -> SandboxSpec {
    SandboxSpec {
        rootfs: Rootfs::Directory(image.to_owned()),
        ..spec("a", &["/attacker", "attack", attack])
    }
}

fn runs_images() {
    let image = image();
    let home = tempfile::tempdir().unwrap();
    let before: BTreeSet<PathBuf> = fs::read_dir(image.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let inner = SandboxSpec {
        uid: 0,
        gid: 0,
        mounts: vec![Mount {
            target: PathBuf::from("/work/home"),
            kind: MountKind::Bind {
                source: home.path().into(),
                writable: true,
            },
        }],
        ..in_image(image.path(), "write_root_file_system")
    };
    let outcome = Bench::hard().run(inner);
    assert_eq!(outcome.status.code, Outcome::STOPPED, "{outcome:?}");
    let after: BTreeSet<PathBuf> = fs::read_dir(image.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(before, after, "the image was changed");
}

fn stops_set_user_id() {
    let image = image();
    let attack = in_image(image.path(), "become_root_by_set_user_id");
    let outcome = Bench::hard().run(attack.clone());
    assert_eq!(outcome.status.code, Outcome::STOPPED, "{outcome:?}");
    // Landlock and seccomp need no_new_privs and would bring it back.
    let weak = Bench::without(&[
        Defence::NoNewPrivileges,
        Defence::Landlock,
        Defence::Seccomp,
    ]);
    let outcome = weak.run(attack);
    assert_eq!(
        outcome.status.code,
        Outcome::THROUGH,
        "something else stops it: {outcome:?}"
    );
}

fn leaks_no_descriptors() {
    let bench = Bench::hard();
    let command = ["ls", "-l", "/proc/self/fd"];
    let first = bench.run(spec("a", &command));
    println!("{}", first.stdout);
    // One line for the sum, and the fourth descriptor is the one that `ls` reads the folder with.
    assert_eq!(first.stdout.lines().count(), 5, "{first:?}");
    let sandbox = bench.idle(spec("a", &[]));
    assert_eq!(exec(&sandbox, &command).stdout.lines().count(), 5);
    let places = exec(&sandbox, &["readlink", "/proc/self/cwd", "/proc/self/root"]);
    assert_eq!(places.stdout, "/\n/\n");
}

fn leaks_no_environment() {
    let bench = Bench::hard();
    let outcome = bench.run(spec("a", &["env"]));
    let names: BTreeSet<&str> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, BTreeSet::from(["HOME", "PATH"]));
}

fn runs_out_of_memory() {
    let bench = Bench::hard();
    let limits = Limits {
        memory_bytes: Some(32 << 20),
        ..Limits::default()
    };
    let outcome = bench.run(SandboxSpec {
        limits,
        ..spec(
            "a",
            &[
                "sh",
                "-c",
                "head -c 200000000 /dev/zero | tail -c 100000000 | wc -c",
            ],
        )
    });
    assert!(outcome.status.out_of_memory, "{outcome:?}");
}

fn has_terminal() {
    let bench = Bench::hard();
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let stdio = Stdio {
        stdin: slave.try_clone().unwrap(),
        stdout: slave.try_clone().unwrap(),
        stderr: slave,
    };
    let sandbox = bench.idle(spec("a", &[]));
    let mut shell = exec_spec(&["sh", "-c", "test -t 0 && stty size && ps -o tty= -p $$"]);
    shell.terminal = true;
    let process = sandbox.exec(shell, &stdio).unwrap();
    drop(stdio);
    assert_eq!(process.wait().unwrap().code, 0);
    let mut text = vec![0; 100];
    let count = rustix::io::read(&master, &mut text).unwrap();
    let text = String::from_utf8_lossy(&text[..count]).into_owned();
    assert!(text.starts_with("0 0"), "{text}");
}
