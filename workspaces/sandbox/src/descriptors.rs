//! Descriptors that a program must not inherit: all but its three standard streams.

use std::io;

use nix::libc;

const FIRST: u32 = 3;

/// What happens to them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// They close when a program is run. For a process that still uses its own.
    CloseOnExec,
    /// They close now. For a process that has none of its own yet.
    CloseNow,
}

/// Deals with every descriptor after standard error. One system call: usable between fork and exec.
pub(crate) fn seal(fate: Fate) -> io::Result<()> {
    let flags = match fate {
        Fate::CloseOnExec => libc::CLOSE_RANGE_CLOEXEC,
        Fate::CloseNow => 0,
    };
    // SAFETY: closing on exec takes nothing from this process; closing now is only asked for by a process that has just
    // begun and owns no descriptor, only inherited ones.
    // JUSTIFICATION: none of our dependencies wraps close_range(2).
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, flags) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
