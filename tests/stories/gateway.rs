//! `qd gateway` alone, without a stack around it.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{client, qd};

/// A running gateway; killed with SIGKILL when dropped.
pub(crate) struct Gateway {
    process: Child,
    base: String,
    client: reqwest::Client,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Gone already where the story has ended it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Gateway {
    /// Starts a gateway of this snapshot with its data in a folder, and waits until it is ready.
    pub(crate) async fn start(folder: &Path, snapshot: &Value, flags: &[&str]) -> Result<Self> {
        let config = folder.join("snapshot.json");
        fs::write(&config, snapshot.to_string())?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(qd());
        command.args(["gateway", "--listen", &address.to_string(), "--config"]);
        command.arg(config).args(flags);
        command.arg("--data-dir").arg(folder.join("data"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut gateway = Self {
            process: command.spawn()?,
            base: format!("http://{address}"),
            client: client(),
        };
        let ready = format!("{}/readyz", gateway.base);
        loop {
            let answer = gateway.client.get(&ready).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(gateway);
            }
            let ended = gateway.process.try_wait()?;
            ensure!(ended.is_none(), "the gateway did not start");
            tokio::task::yield_now().await;
        }
    }

    /// The base URL, with `/v1`.
    pub(crate) fn url(&self) -> String {
        format!("{}/v1", self.base)
    }

    /// The base URL without a path.
    pub(crate) fn root(&self) -> &str {
        &self.base
    }

    /// A client of its own connections.
    pub(crate) fn client(&self) -> reqwest::Client {
        self.client.clone()
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.process.id())?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        ensure!(
            self.process.wait()?.success(),
            "the gateway did not end well"
        );
        Ok(())
    }
}
