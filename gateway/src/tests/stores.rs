//! Real stores, started by the tests on loopback with folders of their own, and ended by their ids.

mod ledger;
pub(crate) mod postgres;
pub(crate) mod redis;
mod shared_cache;

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Tries to start a program on a free port, which another program may take first.
const TRIES: usize = 5;

/// A program that runs; it is killed when it is dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Starts a program and returns once it has said that it is ready; `None` if it ended before.
    pub(super) fn start(mut command: Command, ready: &str, errors: bool) -> Option<Self> {
        let (told, silent) = (Stdio::piped(), Stdio::null());
        match errors {
            true => command.stdout(silent).stderr(told),
            false => command.stdout(told).stderr(silent),
        };
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let output: Box<dyn Read + Send> = match errors {
            true => Box::new(child.stderr.take().unwrap()),
            false => Box::new(child.stdout.take().unwrap()),
        };
        let mut running = Self(child);
        let mut lines = BufReader::new(output).lines();
        let is_ready = lines
            .by_ref()
            .any(|line| line.is_ok_and(|line| line.contains(ready)));
        if !is_ready {
            running.0.wait().unwrap();
            return None;
        }
        // A program whose output nobody reads stops.
        std::thread::spawn(move || lines.for_each(drop));
        Some(running)
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    /// Sends a signal to all processes of a program that began a group.
    pub(super) fn signal_group(&self, signal: Signal) {
        kill_process_group(self.id(), signal).unwrap();
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts something on a port that is free.
pub(super) fn on_free_port<T>(mut start: impl FnMut(u16) -> Option<T>) -> (u16, T) {
    let started = (0..TRIES).find_map(|_| {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        start(port).map(|started| (port, started))
    });
    started.expect("the program starts; .ci/run says which packages the tests need")
}
