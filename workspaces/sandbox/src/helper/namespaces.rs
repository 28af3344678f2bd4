//! The helper's own namespaces, and the small facts about them that need a system call.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::SandboxError;
use crate::ids::RANGE_IDS;
use crate::plan::Identity;

/// Puts the helper into namespaces of its own; for a caller without root this begins with a user namespace.
pub(super) fn enter_own(identity: Identity, network: bool) -> Result<(), SandboxError> {
    let mut flags = UnshareFlags::NEWNS;
    if network {
        flags |= UnshareFlags::NEWNET;
    }
    match identity {
        Identity::Range(_) => {
            // Groups of the caller would stay with the programs: libcontainer only sets groups that it is given.
            rustix::thread::set_thread_groups(&[]).map_err(SandboxError::step("drop groups"))?;
            unshare(flags).map_err(SandboxError::step("make namespaces"))?;
        }
        Identity::Caller => {
            let (uid, gid) = (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            );
            unshare(flags | UnshareFlags::NEWUSER)
                .map_err(SandboxError::step("make a user namespace"))?;
            map_single(uid, gid).map_err(SandboxError::step("map the caller's id"))?;
        }
    }
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .map_err(SandboxError::step("detach from the host's mounts"))?;
    if network {
        raise_loopback().map_err(SandboxError::step("bring the loopback up"))?;
    }
    Ok(())
}

/// Leaves namespaces behind.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the helper is single-threaded (checked at its start), so no other thread relies on shared file descriptors
    // or on a shared file system context.
    // JUSTIFICATION: the safe form refuses nothing that is used here but is deprecated.
    unsafe { unshare_unsafe(flags) }.map_err(Into::into)
}

/// Makes the caller user and group 0 of the user namespace it just made.
pub(super) fn map_single(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// A user namespace with a sandbox's range of ids, as a descriptor for id-mapped mounts.
pub(super) fn mapped_user_namespace(first: u32) -> io::Result<OwnedFd> {
    let (ready_read, ready_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (done_read, done_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the helper is single-threaded, so the child may do anything; it only makes system calls and exits.
    // JUSTIFICATION: a user namespace needs a process that is in it while its maps are written.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => {
            drop((ready_read, done_write));
            let code = i32::from(unshare(UnshareFlags::NEWUSER).is_err());
            drop(ready_write);
            let mut byte = [0];
            // Ends when the parent has the descriptor, or is gone.
            let ended = rustix::io::read(&done_read, &mut byte).is_ok();
            exit_now(if ended { code } else { 1 })
        }
        nix::unistd::ForkResult::Parent { child } => {
            drop((ready_write, done_read));
            let mut byte = [0];
            rustix::io::read(&ready_read, &mut byte)?;
            let map = format!("0 {first} {RANGE_IDS}");
            let opened = fs::write(format!("/proc/{child}/uid_map"), &map)
                .and_then(|()| fs::write(format!("/proc/{child}/gid_map"), &map))
                .and_then(|()| fs::File::open(format!("/proc/{child}/ns/user")));
            drop(done_write);
            nix::sys::wait::waitpid(child, None)?;
            opened.map(Into::into)
        }
    }
}

/// Ends a forked child without running what its parent registered for its own exit.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` only ends the process.
    // JUSTIFICATION: `std::process::exit` would run the parent's exit handlers in the child.
    unsafe { nix::libc::_exit(code) }
}

/// The kernel kills this process when its parent, the helper, is gone; also if that happened a moment ago.
pub(super) fn die_with_helper(helper_gone: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut fds = [rustix::event::PollFd::new(
        helper_gone,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if rustix::event::poll(&mut fds, Some(&now))? > 0 {
        return Err(io::Error::other("the helper has ended"));
    }
    Ok(())
}

/// Brings `lo` of the current network namespace up.
fn raise_loopback() -> io::Result<()> {
    use nix::libc::{IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS, c_char, ifreq, ioctl};
    use std::os::fd::AsRawFd;

    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: an `ifreq` of zero bytes is valid.
    // JUSTIFICATION: there is no safe wrapper for these requests among our dependencies.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = *byte as c_char;
    }
    // SAFETY: the request is a valid `ifreq` with a terminated name, and the kernel writes only into it.
    let outcome = unsafe { ioctl(socket.as_raw_fd(), SIOCGIFFLAGS, &raw mut request) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has filled in the flags member of the union.
    unsafe {
        request.ifr_ifru.ifru_flags |= IFF_UP as i16;
    }
    // SAFETY: as for the first request.
    let outcome = unsafe { ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw mut request) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A pidfd of a child that is not reaped yet.
pub(super) fn pidfd_of(pid: i32) -> Result<OwnedFd, SandboxError> {
    let pid = Pid::from_raw(pid).ok_or_else(|| SandboxError::Helper {
        step: "name the first process".to_owned(),
        reason: "it has no id".to_owned(),
    })?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(SandboxError::step("open the first process"))
}

/// Joins every namespace of a process at once.
pub(super) fn join_all(
    pidfd: &OwnedFd,
    flags: rustix::thread::ThreadNameSpaceType,
) -> io::Result<()> {
    rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), flags).map_err(Into::into)
}
