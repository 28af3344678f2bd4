//! Servers as child processes: start, wait until ready, ask, weigh, stop.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(4);
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A port of the loopback interface that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a port")?;
    Ok(listener.local_addr().context("looking for a port")?.port())
}

/// A server that answers; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// From the start of the process until it was ready.
    pub(crate) started_in: Duration,
}

impl Server {
    /// Starts a server on `port` and waits until `path` is answered with 200.
    pub(crate) fn start(command: &mut Command, port: u16, path: &str) -> Result<Self> {
        let begin = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .context("starting a server")?;
        let mut server = Self {
            child,
            port,
            started_in: Duration::ZERO,
        };
        while !matches!(server.get(path), Ok((200, _))) {
            if let Some(status) = server.child.try_wait().context("watching a server")? {
                bail!("the server ended with {status} before it was ready");
            }
            ensure!(
                begin.elapsed() < READY_TIMEOUT,
                "the server was not ready within {READY_TIMEOUT:?}"
            );
            thread::sleep(POLL_INTERVAL);
        }
        server.started_in = begin.elapsed();
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Asks for a path; gives the status and the body.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .context("no HTTP status")?;
        Ok((status, body.to_owned()))
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let (_, text) = self.get("/metrics").context("reading the metrics")?;
        metric(&text, name).with_context(|| format!("the server has no metric {name}"))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Memory of the process in bytes; what it shares with others counts in part.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        self.rollup_bytes("Pss:")
    }

    /// Memory in bytes that the process has allocated: without pages of files, which the system takes back when it
    /// likes.
    pub(crate) fn allocated_bytes(&self) -> Result<u64> {
        self.rollup_bytes("Pss_Anon:")
    }

    fn rollup_bytes(&self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
            .map(|kibibytes| kibibytes * 1024)
            .with_context(|| format!("{path} has no line `{name}`"))
    }

    /// Asks the process to stop; says whether it ended well.
    pub(crate) fn stop(mut self) -> Result<bool> {
        self.signal(Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < STOP_TIMEOUT {
            if let Some(status) = self.child.try_wait().context("watching a server")? {
                return Ok(status.success());
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(false)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A process that has ended already needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running() {
            // Nobody waits for what this process still does.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn metric(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    });
    samples.reduce(|sum, sample| sum + sample)
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[track_caller]
    fn check(name: &str, expected: Option<f64>) {
        let text = "# HELP a:b Things\na:b{model=\"m {x}\"} 2\na:b{model=\"n\"} 0.5\na:b_total 7\n";
        assert_eq!(metric(text, name), expected, "{name}");
    }

    #[test]
    fn a_metric_is_the_sum_over_its_labels() {
        check("a:b", Some(2.5));
        check("a:b_total", Some(7.0));
        check("a", None);
    }
}
