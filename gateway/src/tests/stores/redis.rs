//! A real Redis.

use std::process::Command;

use protocol::{secret::SecretString, snapshot::CacheStore};
use redis::{FromRedisValue, aio::MultiplexedConnection};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Running, on_free_port};

/// The password of all of them.
pub(crate) const PASSWORD: &str = "kept-secret-7f3a";

/// A Redis with a folder of its own.
pub(crate) struct Redis {
    folder: TempDir,
    port: u16,
    running: Option<Running>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, running) = on_free_port(|port| run(&folder, port));
        Self {
            folder,
            port,
            running: Some(running),
        }
    }

    pub(crate) fn store(&self, timeout_millis: u64) -> CacheStore {
        CacheStore {
            url: SecretString::new(self.url()),
            timeout_millis,
        }
    }

    fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}/2", self.port)
    }

    /// Lets it hang, or go on.
    pub(crate) fn hang(&self, hangs: bool) {
        let signal = if hangs { Signal::STOP } else { Signal::CONT };
        self.running.as_ref().unwrap().signal(signal);
    }

    /// Kills it with all that it holds.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again at the same port.
    pub(crate) fn start_again(&mut self) {
        self.running = run(&self.folder, self.port);
        assert!(self.running.is_some());
    }

    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection: MultiplexedConnection =
            client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }
}

fn run(folder: &TempDir, port: u16) -> Option<Running> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &port.to_string(), "--requirepass", PASSWORD]);
    command.arg("--dir").arg(folder.path());
    Running::start(command, "Ready to accept connections", false)
}
