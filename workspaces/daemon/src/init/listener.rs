//! A unix socket that answers those outside, not the programs that this process started.

use std::io;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

/// After an error that is not the client's, as running out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// More generations than this is no process tree of ours.
const GENERATIONS_MAX: usize = 4_096;

/// Accepts connections whose other end is not below this process.
#[derive(Debug)]
pub(super) struct OutsideOnly {
    inner: UnixListener,
}

impl OutsideOnly {
    pub(super) fn new(inner: UnixListener) -> Self {
        Self { inner }
    }
}

impl Listener for OutsideOnly {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.inner.accept().await {
                Ok((stream, address)) if is_outside(&stream) => return (stream, address),
                Ok(_) => {
                    tracing::warn!("a program of the workspace was refused at the daemon's socket");
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A process of another pid namespace has no id here; one that has must not descend from us.
fn is_outside(stream: &UnixStream) -> bool {
    match stream.peer_cred().map(|credentials| credentials.pid()) {
        Ok(None | Some(0)) => true,
        Ok(Some(pid)) => {
            pid.unsigned_abs() == std::process::id()
                || !descends_from(pid.unsigned_abs(), std::process::id())
        }
        Err(_) => false,
    }
}

fn descends_from(pid: u32, ancestor: u32) -> bool {
    let mut pid = pid;
    for _ in 0..GENERATIONS_MAX {
        match parent_of(pid) {
            Some(parent) if parent == ancestor => return true,
            Some(0) => return false,
            Some(parent) => pid = parent,
            // It has ended: who it was cannot be known.
            None => return true,
        }
    }
    true
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_is_seen_over_generations() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 100 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = io::BufReader::new(child.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        assert!(descends_from(grandchild, std::process::id()));
        assert!(descends_from(grandchild, child.id()));
        assert!(!descends_from(std::process::id(), grandchild));
        let pid = rustix::process::Pid::from_raw(i32::try_from(grandchild).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
    }
}
