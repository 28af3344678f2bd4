//! Every attack, and the defences that stop it.
//!
//! Each is a test of its own: with the hard profile the attack is stopped, for root inside and for a user, as the first
//! process and as one that joined later; without its defences it gets through, so that the test is known to see it.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use workspaces_sandbox::Defence::{
    self, CpuLimit, IpcNamespace, Landlock, MaskedPaths, MemoryLimit, NetworkNamespace,
    NoCapabilities, OwnRootfs, PidNamespace, PidsLimit, ReadonlyPaths, ReadonlyRootfs, Rlimits,
    Seccomp, UserNamespace,
};
use workspaces_sandbox::{Limits, Mount, MountKind, SandboxSpec};

use crate::attacker::Outcome;
use crate::bench::{Bench, Streams, exec_spec, spec};
use crate::harness::Test;

/// What is off when a call that needs a capability over the host gets through.
const PRIVILEGE: &[Defence] = &[Seccomp, NoCapabilities, UserNamespace];
/// What is off when a mount gets through.
const MOUNT: &[Defence] = &[Seccomp, NoCapabilities, Landlock];

/// The attacks, and what must all be off for one to get through.
const ATTACKS: &[(&str, &[Defence])] = &[
    ("read_shadow_of_the_host", &[OwnRootfs, UserNamespace]),
    (
        "read_through_the_root_of_a_host_process",
        &[PidNamespace, UserNamespace, NoCapabilities, Landlock],
    ),
    (
        "read_kernel_memory",
        &[MaskedPaths, UserNamespace, NoCapabilities],
    ),
    ("read_kernel_keys", &[MaskedPaths]),
    ("read_kernel_timers", &[MaskedPaths, UserNamespace]),
    ("read_firmware", &[OwnRootfs]),
    ("write_sysrq", &[ReadonlyPaths, UserNamespace, Landlock]),
    (
        "write_core_pattern",
        &[MaskedPaths, ReadonlyPaths, UserNamespace, Landlock],
    ),
    (
        "write_modprobe_path",
        &[MaskedPaths, ReadonlyPaths, UserNamespace, Landlock],
    ),
    (
        "write_uevent_helper",
        &[OwnRootfs, ReadonlyRootfs, UserNamespace, Landlock],
    ),
    (
        "write_sysctl_of_the_host",
        &[ReadonlyPaths, UserNamespace, Landlock],
    ),
    ("write_root_file_system", &[ReadonlyRootfs, Landlock]),
    (
        "write_programs_of_the_host",
        &[OwnRootfs, UserNamespace, Landlock],
    ),
    (
        "lower_oom_score",
        &[UserNamespace, NoCapabilities, Landlock],
    ),
    ("make_block_device", &[UserNamespace, NoCapabilities]),
    ("open_by_handle", PRIVILEGE),
    ("mount_memory", MOUNT),
    (
        "mount_fresh_proc",
        &[
            Seccomp,
            NoCapabilities,
            Landlock,
            MaskedPaths,
            ReadonlyPaths,
        ],
    ),
    (
        "mount_cgroups",
        &[Seccomp, NoCapabilities, Landlock, UserNamespace],
    ),
    ("remount_root_writable", MOUNT),
    ("uncover_kernel_files", MOUNT),
    ("change_root", &[Seccomp, NoCapabilities]),
    ("clone_mount_tree", MOUNT),
    ("make_user_namespace", &[Seccomp]),
    ("make_network_namespace", &[Seccomp, NoCapabilities]),
    ("clone_user_namespace", &[Seccomp]),
    ("clone3_user_namespace", &[Seccomp]),
    (
        "join_mount_namespace_of_the_host",
        &[
            Seccomp,
            NoCapabilities,
            UserNamespace,
            PidNamespace,
            Landlock,
        ],
    ),
    ("load_bpf", PRIVILEGE),
    ("open_perf_event", PRIVILEGE),
    ("add_kernel_key", &[Seccomp]),
    ("open_userfaultfd", &[Seccomp]),
    ("open_io_uring", &[Seccomp]),
    ("load_module", PRIVILEGE),
    ("load_kernel", PRIVILEGE),
    ("reboot", &[Seccomp, NoCapabilities]),
    ("set_host_name", &[Seccomp, NoCapabilities]),
    ("disable_address_randomization", &[Seccomp]),
    ("open_vsock", &[Seccomp]),
    ("open_kernel_crypto_socket", &[Seccomp]),
    ("open_packet_socket", PRIVILEGE),
    ("open_raw_socket", PRIVILEGE),
    ("open_netfilter_socket", &[Seccomp]),
    ("type_into_terminal", &[Seccomp]),
    ("see_processes_of_the_host", &[PidNamespace, UserNamespace]),
    (
        "signal_processes_of_the_host",
        &[PidNamespace, UserNamespace, Landlock],
    ),
    ("trace_a_process", &[Seccomp]),
    ("read_memory_of_a_process", &[Seccomp]),
    ("steal_a_descriptor", &[Seccomp]),
    ("use_message_queue_of_the_host", &[IpcNamespace]),
    ("connect_to_loopback_of_the_host", &[NetworkNamespace]),
    (
        "connect_to_abstract_socket_of_the_host",
        &[NetworkNamespace, Landlock],
    ),
    ("route_to_metadata_service", &[NetworkNamespace]),
    ("route_to_private_network", &[NetworkNamespace]),
    ("route_to_internet", &[NetworkNamespace]),
    ("fork_without_end", &[PidsLimit]),
    ("take_all_memory", &[MemoryLimit]),
    ("take_all_processor_time", &[CpuLimit]),
    ("dump_core", &[Rlimits]),
];

pub(crate) fn tests() -> Vec<Test> {
    ATTACKS
        .iter()
        .map(|(name, defences)| {
            Test::new(format!("attack_is_stopped::{name}"), move || {
                check(name, defences);
            })
        })
        .collect()
}

fn check(name: &'static str, defences: &[Defence]) {
    let target = Target::new();
    let command = target.command(name);
    let hard = Bench::hard();
    for uid in [0, 1000] {
        expect_stopped(name, &format!("user {uid}"), &strike(&hard, &command, uid));
        expect_stopped(
            name,
            &format!("user {uid} who joined"),
            &strike_later(&hard, &command, uid),
        );
    }
    match strike(&Bench::without(defences), &command, 0) {
        (Outcome::THROUGH, text) => println!("without {defences:?}: {text}"),
        (Outcome::ABSENT, text) => println!("cannot be proven on this host: {text}"),
        (code, text) => panic!(
            "{name} is stopped ({code}: {text}) even without {defences:?}: something else stops it, say what"
        ),
    }
}

fn expect_stopped(name: &str, who: &str, (code, text): &(i32, String)) {
    assert_ne!(*code, 99, "there is no attack {name}");
    // Killed by the memory limit counts.
    let stopped = matches!(*code, Outcome::STOPPED | Outcome::ABSENT | 137);
    assert!(stopped, "{name} got through for {who}: {code} {text}");
    println!("{who}: {text}");
}

fn strike(bench: &Bench, command: &[&str], uid: u32) -> (i32, String) {
    let outcome = bench.run(attacked("a", command, uid));
    (outcome.status.code, outcome.stdout + &outcome.stderr)
}

fn strike_later(bench: &Bench, command: &[&str], uid: u32) -> (i32, String) {
    let sandbox = bench.idle(attacked("b", command, uid));
    let streams = Streams::new();
    let process = sandbox.exec(exec_spec(command), &streams.stdio).unwrap();
    let outcome = streams.finish(|| process.wait().unwrap());
    (outcome.status.code, outcome.stdout + &outcome.stderr)
}

fn attacked(id: &str, command: &[&str], uid: u32) -> SandboxSpec {
    SandboxSpec {
        uid,
        gid: uid,
        mounts: vec![Mount {
            target: PathBuf::from("/attacker"),
            kind: MountKind::Bind {
                source: std::env::current_exe().unwrap(),
                writable: false,
            },
        }],
        limits: Limits {
            cpu_millis: Some(50),
            memory_bytes: Some(64 << 20),
            pids: Some(50),
        },
        ..spec(id, command)
    }
}

/// What some attacks aim at: this process, its sockets and its queue.
struct Target {
    tcp: TcpListener,
    name: String,
    _unix: UnixListener,
    queue: i32,
    key: i32,
    pid: String,
}

impl Target {
    fn new() -> Self {
        let name = format!("quarterdeck-target-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let key = i32::try_from(std::process::id()).unwrap() | 0x5100_0000;
        // SAFETY: the call takes no pointers.
        let queue = unsafe { nix::libc::msgget(key, nix::libc::IPC_CREAT | 0o666) };
        assert!(queue >= 0, "{}", io::Error::last_os_error());
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            _unix: UnixListener::bind_addr(&address).unwrap(),
            name,
            queue,
            key,
            pid: std::process::id().to_string(),
        }
    }

    fn command(&self, attack: &'static str) -> Vec<&str> {
        let address: &str = Box::leak(self.tcp.local_addr().unwrap().to_string().into_boxed_str());
        let key: &str = Box::leak(self.key.to_string().into_boxed_str());
        let aim = match attack {
            "see_processes_of_the_host"
            | "signal_processes_of_the_host"
            | "read_through_the_root_of_a_host_process"
            | "join_mount_namespace_of_the_host" => self.pid.as_str(),
            "use_message_queue_of_the_host" => key,
            "connect_to_loopback_of_the_host" => address,
            "connect_to_abstract_socket_of_the_host" => &self.name,
            _ => "",
        };
        vec!["/attacker", "attack", attack, aim]
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: the queue is ours.
        unsafe { nix::libc::msgctl(self.queue, nix::libc::IPC_RMID, std::ptr::null_mut()) };
    }
}
