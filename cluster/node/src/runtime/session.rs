//! A command with its streams, started by the spawner: what `exec` into a process container and its probes use.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use futures::FutureExt;
use tokio::process::{Child, Command};

use super::spawner::Spawner;
use super::terminal::Terminal;
use super::{Ended, ExecRequest, Session};

/// Starts `command` with the streams that `request` asks for.
pub(crate) async fn open(
    spawner: &Spawner,
    mut command: Command,
    request: &ExecRequest,
) -> io::Result<Session> {
    if request.tty {
        let (terminal, theirs) = Terminal::open()?;
        command
            .stdin(theirs.try_clone()?)
            .stdout(theirs.try_clone()?)
            .stderr(theirs);
        let child = spawner.spawn(command).await?;
        return Ok(Session {
            stdin: request
                .stdin
                .then(|| Box::new(terminal.clone()) as super::Writer),
            stdout: Some(Box::new(terminal.clone())),
            stderr: None,
            terminal: Some(terminal),
            ended: wait(child).boxed(),
        });
    }
    command.stdin(if request.stdin {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawner.spawn(command).await?;
    Ok(Session {
        stdin: child
            .stdin
            .take()
            .map(|stdin| Box::new(stdin) as super::Writer),
        stdout: child
            .stdout
            .take()
            .map(|stdout| Box::new(stdout) as super::Reader),
        stderr: child
            .stderr
            .take()
            .map(|stderr| Box::new(stderr) as super::Reader),
        terminal: None,
        ended: wait(child).boxed(),
    })
}

async fn wait(mut child: Child) -> io::Result<Ended> {
    Ok(ended(child.wait().await?))
}

/// An exit status as a container status has it: a signal counts as 128 and its number.
pub(crate) fn ended(status: ExitStatus) -> Ended {
    let signal = status.signal();
    Ended {
        code: status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)),
        signal,
        out_of_memory: false,
    }
}

#[cfg(test)]
mod tests;
