//! The first moments of a process container: runs in the new process, before any thread, and becomes the real program.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal};

/// The hidden subcommand that the binary hands to [`launch`].
pub const LAUNCH_COMMAND: &str = "pod-process";

/// Exit code of a process that could not become its program.
const EXIT_CANNOT_EXEC: u8 = 126;

/// Ties this process to the node that started it, enters its cgroup and terminal, and becomes the program after `--`.
///
/// `arguments` are those after [`LAUNCH_COMMAND`]. Must be called before any thread is started. Returns only on failure.
pub fn launch(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match become_program(arguments) {
        Ok(never) => match never {},
        Err(message) => {
            let report = format!("cannot start the container: {message}\n");
            // Nobody is left to tell when standard error is closed too.
            let _ = rustix::io::write(rustix::stdio::stderr(), report.as_bytes());
            ExitCode::from(EXIT_CANNOT_EXEC)
        }
    }
}

enum Never {}

fn become_program(arguments: impl Iterator<Item = OsString>) -> Result<Never, String> {
    let mut arguments = arguments;
    let mut parent = None;
    let mut terminal = false;
    while let Some(flag) = arguments.next() {
        match flag.to_str() {
            Some("--parent") => {
                parent = arguments
                    .next()
                    .and_then(|pid| pid.to_str()?.parse::<i32>().ok());
            }
            Some("--cgroup") => enter_cgroup(Path::new(&arguments.next().unwrap_or_default()))?,
            Some("--terminal") => terminal = true,
            Some("--") => break,
            _ => return Err(format!("unknown flag {}", flag.display())),
        }
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("cannot follow the node's death: {error}"))?;
    // The node may have died before the line above.
    if parent.is_none()
        || rustix::process::getppid()
            .map(Pid::as_raw_nonzero)
            .map(i32::from)
            != parent
    {
        return Err("the node is gone".to_owned());
    }
    if terminal {
        rustix::process::setsid().map_err(|error| format!("cannot start a session: {error}"))?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .map_err(|error| format!("cannot take the terminal: {error}"))?;
    }
    let program = arguments.next().ok_or("no program was named")?;
    let error = Command::new(&program).args(arguments).exec();
    Err(format!("{}: {error}", program.display()))
}

fn enter_cgroup(procs: &Path) -> Result<(), String> {
    fs::write(procs, "0").map_err(|error| format!("cannot enter {}: {error}", procs.display()))
}
