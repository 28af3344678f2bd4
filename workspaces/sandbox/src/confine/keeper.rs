//! The keeper: a fork that stands between the daemon and a program, adopts what the program leaves behind, and ends as
//! the program ended.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// Forks. The child returns and becomes the program; the parent, the keeper, never returns.
///
/// Runs between fork and exec of a threaded process: it only makes system calls, and allocates nothing.
pub(super) fn stand_between(pid_pipe: &OwnedFd) -> io::Result<()> {
    adopt_descendants()?;
    // SAFETY: a process between fork and exec is single-threaded; both sides only make system calls from here on.
    // JUSTIFICATION: adoption needs a process of its own for each program.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => tell_own_pid(pid_pipe.as_raw_fd()),
        child => keep(child),
    }
}

/// Orphans below this process become its children rather than those of process 1.
pub(super) fn adopt_descendants() -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    // JUSTIFICATION: the wrapper among our dependencies takes a process id where the kernel takes a claim.
    let outcome = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The program-to-be tells its own process id: the keeper might not live to do it, since a program may kill its keeper.
fn tell_own_pid(pid_pipe: i32) -> io::Result<()> {
    // SAFETY: the calls take values and a live local variable, and none allocates.
    // JUSTIFICATION: usable between fork and exec.
    let written = unsafe {
        let bytes = libc::getpid().to_ne_bytes();
        libc::write(pid_pipe, bytes.as_ptr().cast(), bytes.len())
    };
    if written == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn keep(child: libc::pid_t) -> ! {
    // SAFETY: all arguments are values or point to live local variables, and no call allocates. Descriptors are closed
    // so that the other ends of the program's streams see its end, and `_exit` ends the process.
    // JUSTIFICATION: std's own process functions may allocate or take locks that another thread held at the fork.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0_u32);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"workspace-keep".as_ptr(), 0, 0, 0);
        let mut status = 0;
        loop {
            let reaped = libc::waitpid(-1, &raw mut status, 0);
            if reaped == child {
                let code = if libc::WIFSIGNALED(status) {
                    128 + libc::WTERMSIG(status)
                } else {
                    libc::WEXITSTATUS(status)
                };
                libc::_exit(code);
            }
            if reaped == -1 && *libc::__errno_location() != libc::EINTR {
                libc::_exit(127);
            }
        }
    }
}

/// Lowers a limit; one that is lower already stays. Only system calls.
pub(super) fn lower_limit(resource: u32, wanted: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is live and the kernel only writes into it, then only reads it.
    // JUSTIFICATION: usable between fork and exec, with a resource by its number.
    let outcome = unsafe {
        if libc::getrlimit(resource, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_max = limit.rlim_max.min(wanted);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(resource, &raw const limit)
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Everything below a process that has not ended yet.
pub(super) fn living_descendants(ancestor: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<(u32, bool)>> = BTreeMap::new();
    for (pid, parent, ended) in processes() {
        children.entry(parent).or_default().push((pid, ended));
    }
    let mut found = Vec::new();
    let mut open = vec![ancestor];
    while let Some(parent) = open.pop() {
        for (pid, ended) in children.remove(&parent).unwrap_or_default() {
            open.push(pid);
            if !ended {
                found.push(pid);
            }
        }
    }
    found
}

/// The children of a process that have not ended yet.
pub(super) fn living_children(parent: u32) -> Vec<u32> {
    processes()
        .into_iter()
        .filter(|(_, its_parent, ended)| *its_parent == parent && !ended)
        .map(|(pid, _, _)| pid)
        .collect()
}

/// All processes that are seen here: id, parent, whether it has ended and only waits to be reaped.
fn processes() -> Vec<(u32, u32, bool)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let state = fields.next()?;
            Some((
                pid,
                fields.next()?.parse().ok()?,
                matches!(state, "Z" | "X"),
            ))
        })
        .collect()
}
