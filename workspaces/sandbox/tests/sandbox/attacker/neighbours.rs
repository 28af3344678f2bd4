//! Attacks on other processes and on the network.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::libc;

use super::{Attack, Outcome, call};

pub(super) const ALL: &[(&str, Attack)] = &[
    ("see_processes_of_the_host", |args| see_process(&args[0])),
    ("signal_processes_of_the_host", |args| {
        signal_process(&args[0])
    }),
    ("trace_a_process", |_| trace()),
    ("read_memory_of_a_process", |_| read_memory()),
    ("steal_a_descriptor", |_| steal_descriptor()),
    ("use_message_queue_of_the_host", |args| {
        message_queue(&args[0])
    }),
    ("connect_to_loopback_of_the_host", |args| connect(&args[0])),
    ("connect_to_abstract_socket_of_the_host", |args| {
        connect_abstract(&args[0])
    }),
    ("route_to_metadata_service", |_| route("169.254.169.254:80")),
    ("route_to_private_network", |_| route("10.0.0.1:443")),
    ("route_to_internet", |_| route("1.1.1.1:443")),
];

fn see_process(pid: &str) -> Outcome {
    if Path::new("/proc").join(pid).exists() {
        Outcome::Through("it is there".to_owned())
    } else {
        Outcome::Stopped("it is not there".to_owned())
    }
}

fn signal_process(pid: &str) -> Outcome {
    // SAFETY: signal 0 only asks.
    Outcome::of(call(unsafe { libc::kill(pid.parse().unwrap(), 0) }.into()))
}

/// A child that waits, and is killed when this is dropped.
struct Victim(i32);

impl Victim {
    fn new() -> Self {
        // SAFETY: this process is single-threaded; the child only waits.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            pid => Self(pid),
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // SAFETY: the child is ours and not reaped.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

fn trace() -> Outcome {
    let victim = Victim::new();
    // SAFETY: the request takes no pointers.
    Outcome::of(call(unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, victim.0, 0, 0)
    }))
}

fn read_memory() -> Outcome {
    let victim = Victim::new();
    let (secret, mut copy) = ([7_u8; 8], [0_u8; 8]);
    let local = libc::iovec {
        iov_base: copy.as_mut_ptr().cast(),
        iov_len: 8,
    };
    let remote = libc::iovec {
        iov_base: secret.as_ptr().cast_mut().cast(),
        iov_len: 8,
    };
    // SAFETY: both vectors name live arrays of that length; the child is a copy of this process.
    let outcome =
        unsafe { libc::process_vm_readv(victim.0, &raw const local, 1, &raw const remote, 1, 0) };
    Outcome::of(call(outcome as i64))
}

fn steal_descriptor() -> Outcome {
    let victim = Victim::new();
    let pid = rustix::process::Pid::from_raw(victim.0).unwrap();
    let outcome =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).and_then(|pidfd| {
            rustix::process::pidfd_getfd(pidfd, 1, rustix::process::PidfdGetfdFlags::empty())
        });
    Outcome::of(outcome.map_err(io::Error::from))
}

fn message_queue(key: &str) -> Outcome {
    // SAFETY: the call takes no pointers.
    Outcome::of(call(
        unsafe { libc::msgget(key.parse().unwrap(), 0) }.into(),
    ))
}

fn connect(address: &str) -> Outcome {
    let address: SocketAddr = address.parse().unwrap();
    Outcome::of(TcpStream::connect_timeout(&address, Duration::from_secs(2)))
}

fn connect_abstract(name: &str) -> Outcome {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    Outcome::of(UnixStream::connect_addr(&address))
}

/// Whether there is a way to an address. Nothing is sent.
fn route(address: &str) -> Outcome {
    let outcome = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect(address));
    Outcome::of(outcome)
}
