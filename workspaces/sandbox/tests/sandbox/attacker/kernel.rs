//! Attacks on the kernel's interfaces: mounts, namespaces, sockets, and calls that programs do not need.

use std::ffi::CString;
use std::fs;
use std::io;
use std::ptr::null;

use nix::libc::{self, c_int, c_ulong};

use super::{Attack, Outcome, call};

pub(super) const ALL: &[(&str, Attack)] = &[
    ("mount_memory", |_| mount("tmpfs", "tmpfs", 0)),
    ("mount_fresh_proc", |_| mount("proc", "proc", 0)),
    ("mount_cgroups", |_| mount_cgroups()),
    ("remount_root_writable", |_| remount_root()),
    ("uncover_kernel_files", |_| unmount("/proc/keys")),
    ("change_root", |_| change_root()),
    ("clone_mount_tree", |_| open_tree()),
    ("make_user_namespace", |_| unshare(libc::CLONE_NEWUSER)),
    ("make_network_namespace", |_| unshare(libc::CLONE_NEWNET)),
    ("clone_user_namespace", |_| clone_namespace()),
    ("clone3_user_namespace", |_| clone3_namespace()),
    ("join_mount_namespace_of_the_host", |args| {
        join_namespace(&args[0])
    }),
    ("load_bpf", |_| bpf()),
    ("open_perf_event", |_| perf()),
    ("add_kernel_key", |_| add_key()),
    ("open_userfaultfd", |_| {
        syscall(libc::SYS_userfaultfd, [1, 0, 0, 0, 0])
    }),
    ("open_io_uring", |_| io_uring()),
    ("load_module", |_| {
        privileged(libc::SYS_finit_module, [-1, 0, 0, 0, 0])
    }),
    ("load_kernel", |_| {
        privileged(libc::SYS_kexec_load, [0, 0, 0, 0xffff, 0])
    }),
    ("reboot", |_| privileged(libc::SYS_reboot, [0, 0, 0, 0, 0])),
    ("set_host_name", |_| set_host_name()),
    ("disable_address_randomization", |_| personality()),
    ("open_vsock", |_| socket(40, libc::SOCK_STREAM, 0)),
    ("open_kernel_crypto_socket", |_| {
        socket(38, libc::SOCK_SEQPACKET, 0)
    }),
    ("open_packet_socket", |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
    }),
    ("open_raw_socket", |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    ("open_netfilter_socket", |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)
    }),
    ("type_into_terminal", |_| type_into_terminal()),
];

fn syscall(number: i64, args: [i64; 5]) -> Outcome {
    Outcome::of(raw(number, args))
}

fn raw(number: i64, [a, b, c, d, e]: [i64; 5]) -> io::Result<i64> {
    // SAFETY: callers pass numbers only, or pointers to live values.
    call(unsafe { libc::syscall(number, a, b, c, d, e) })
}

/// A call that checks the right first and then refuses nonsense: any other refusal means that the right was there.
fn privileged(number: i64, args: [i64; 5]) -> Outcome {
    match raw(number, args) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            Outcome::Stopped(error.to_string())
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Outcome::Absent(error.to_string())
        }
        outcome => Outcome::Through(format!("{outcome:?}")),
    }
}

fn mount_at(
    kind: &str,
    source: &str,
    target: &str,
    flags: c_ulong,
    data: Option<&str>,
) -> io::Result<i64> {
    let [kind, source, target] = [kind, source, target].map(|text| CString::new(text).unwrap());
    let data = data.map(|text| CString::new(text).unwrap());
    let data = data.as_ref().map_or(null(), |text| text.as_ptr());
    // SAFETY: all strings are terminated and live.
    call(
        unsafe {
            libc::mount(
                source.as_ptr(),
                target.as_ptr(),
                kind.as_ptr(),
                flags,
                data.cast(),
            )
        }
        .into(),
    )
}

fn mount(kind: &str, source: &str, flags: c_ulong) -> Outcome {
    fs::create_dir_all("/tmp/mount").unwrap();
    Outcome::of(mount_at(kind, source, "/tmp/mount", flags, None))
}

/// The first step to a release agent.
fn mount_cgroups() -> Outcome {
    fs::create_dir_all("/tmp/mount").unwrap();
    let new = mount_at("cgroup2", "cgroup2", "/tmp/mount", 0, None);
    Outcome::of(new.or_else(|_| mount_at("cgroup", "cgroup", "/tmp/mount", 0, Some("memory"))))
}

fn remount_root() -> Outcome {
    Outcome::of(mount_at(
        "none",
        "none",
        "/",
        libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID | libc::MS_NODEV,
        None,
    ))
}

fn unmount(path: &str) -> Outcome {
    let path = CString::new(path).unwrap();
    // SAFETY: the path is a terminated string.
    Outcome::of(call(
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }.into(),
    ))
}

fn change_root() -> Outcome {
    Outcome::of(std::os::unix::fs::chroot("/tmp"))
}

fn open_tree() -> Outcome {
    const CLONE_RECURSIVELY: i64 = 0x8001;
    let path = CString::new("/").unwrap();
    syscall(
        libc::SYS_open_tree,
        [
            libc::AT_FDCWD.into(),
            path.as_ptr() as i64,
            CLONE_RECURSIVELY,
            0,
            0,
        ],
    )
}

fn unshare(flags: c_int) -> Outcome {
    // SAFETY: this process is single-threaded and ends after the attack.
    Outcome::of(call(unsafe { libc::unshare(flags) }.into()))
}

/// The child of an attack ends at once; the parent says whether there was one.
fn born(pid: i64) -> Outcome {
    if pid == 0 {
        // SAFETY: the child only ends.
        unsafe { libc::_exit(0) }
    }
    Outcome::of(call(pid))
}

fn clone_namespace() -> Outcome {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without a stack this is a fork.
    born(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

fn clone3_namespace() -> Outcome {
    let mut args = [0_u64; 11];
    args[0] = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    args[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    // SAFETY: the arguments are of the size given; without a stack this is a fork.
    born(unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) })
}

fn join_namespace(pid: &str) -> Outcome {
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let path = format!("/proc/{pid}/ns/mnt");
    match fs::read_link(&path) {
        Ok(other) if other == own => {
            return Outcome::Stopped("that process is of this sandbox".to_owned());
        }
        Err(error) => return Outcome::Stopped(error.to_string()),
        Ok(_) => {}
    }
    let outcome = fs::File::open(&path).and_then(|namespace| {
        // SAFETY: the descriptor is open.
        call(
            unsafe {
                libc::setns(
                    std::os::fd::AsRawFd::as_raw_fd(&namespace),
                    libc::CLONE_NEWNS,
                )
            }
            .into(),
        )
    });
    Outcome::of(outcome)
}

fn bpf() -> Outcome {
    // An array of one number with one entry.
    let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    syscall(
        libc::SYS_bpf,
        [
            0,
            attributes.as_ptr() as i64,
            size_of_val(&attributes) as i64,
            0,
            0,
        ],
    )
}

fn perf() -> Outcome {
    // The processor clock of every process on processor 0.
    let mut attributes = [0_u32; 16];
    attributes[0] = 1;
    attributes[1] = 64;
    syscall(
        libc::SYS_perf_event_open,
        [attributes.as_ptr() as i64, -1, 0, -1, 0],
    )
}

fn add_key() -> Outcome {
    let [kind, name] = ["user", "quarterdeck-attack"].map(|text| CString::new(text).unwrap());
    // The process's own keyring, gone with it.
    syscall(
        libc::SYS_add_key,
        [
            kind.as_ptr() as i64,
            name.as_ptr() as i64,
            name.as_ptr() as i64,
            4,
            -2,
        ],
    )
}

fn io_uring() -> Outcome {
    let parameters = [0_u32; 30];
    syscall(
        libc::SYS_io_uring_setup,
        [1, parameters.as_ptr() as i64, 0, 0, 0],
    )
}

fn set_host_name() -> Outcome {
    // SAFETY: the name is live and of the length given.
    Outcome::of(call(
        unsafe { libc::sethostname(c"taken".as_ptr(), 5) }.into(),
    ))
}

fn personality() -> Outcome {
    syscall(libc::SYS_personality, [0x0004_0000, 0, 0, 0, 0])
}

fn socket(family: c_int, kind: c_int, protocol: c_int) -> Outcome {
    // SAFETY: the call takes no pointers.
    match call(unsafe { libc::socket(family, kind, protocol) }.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            Outcome::Absent(error.to_string())
        }
        outcome => Outcome::of(outcome),
    }
}

/// Puts a letter into a terminal's input, as if somebody had typed it.
fn type_into_terminal() -> Outcome {
    use std::os::fd::AsRawFd;
    let attempt = || -> io::Result<()> {
        let master =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        // Closing the terminal must not end the attacker.
        // SAFETY: ignoring a signal takes no handler.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        // As the first process this is a session leader already.
        let _leader = rustix::process::setsid();
        let terminal =
            rustix::fs::open(&name, rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
        // SAFETY: the descriptor is open and the letter is live.
        call(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSTI, c"x".as_ptr()) }.into())
            .map(drop)
    };
    Outcome::of(attempt())
}
