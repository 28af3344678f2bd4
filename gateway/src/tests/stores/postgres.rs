//! A real PostgreSQL.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::{Running, on_free_port};

/// The password of all of them.
pub(crate) const PASSWORD: &str = "ledger-secret-51c9";
/// Who runs it where the tests are root, which it refuses.
const USER: &str = "postgres";

/// A PostgreSQL with a folder of its own.
pub(crate) struct Postgres {
    folder: TempDir,
    port: u16,
    running: Option<Running>,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        give(folder.path());
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        give(&password);
        let mut command = program("initdb");
        command.args(["--no-sync", "--auth=scram-sha-256", "--username=qd", "-D"]);
        command.arg(folder.path().join("data"));
        command.arg("--pwfile").arg(&password);
        assert!(command.output().unwrap().status.success());
        let (port, running) = on_free_port(|port| run(&folder, port));
        Self {
            folder,
            port,
            running: Some(running),
        }
    }

    /// Its URL, as people write it.
    pub(crate) fn url(&self) -> String {
        let port = self.port;
        format!("postgresql://qd:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable")
    }

    /// Kills it where it stands.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again, with what it had on disk.
    pub(crate) fn start_again(&mut self) {
        // What was left of the killed one may still hold its memory.
        while self.running.is_none() {
            self.running = run(&self.folder, self.port);
        }
    }

    /// Lets it hang, with all its processes, or go on.
    pub(crate) fn hang(&self, hangs: bool) {
        let signal = if hangs { Signal::STOP } else { Signal::CONT };
        self.running.as_ref().unwrap().signal_group(signal);
    }

    /// The only value of an answer.
    pub(crate) async fn ask(&self, query: &str) -> i64 {
        let (client, _driving) = self.client().await;
        client.query_one(query, &[]).await.unwrap().get(0)
    }

    async fn client(&self) -> (Client, JoinSet<()>) {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(async move {
            let _ = connection.await;
        });
        (client, driving)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What hangs does not see that it is to end.
        if self.running.is_some() {
            self.hang(false);
        }
    }
}

fn run(folder: &TempDir, port: u16) -> Option<Running> {
    let mut command = program("postgres");
    command.arg("-D").arg(folder.path().join("data"));
    command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    command.args([
        "-c",
        "unix_socket_directories=",
        "-c",
        "shared_buffers=16MB",
    ]);
    command.process_group(0);
    Running::start(command, "is ready to accept connections", true)
}

/// One of its programs, as somebody who may run it.
fn program(name: &str) -> Command {
    let mut command = Command::new(programs().join(name));
    command.env("LC_ALL", "C");
    command.current_dir("/");
    if let Some((user, group)) = other() {
        command.uid(user).gid(group);
    }
    command
}

/// Where Debian has the programs of the newest version.
fn programs() -> PathBuf {
    let found = fs::read_dir("/usr/lib/postgresql");
    let versions = found.expect("PostgreSQL is there; .ci/run says which packages the tests need");
    let newest = versions.map(|version| version.unwrap().path()).max();
    newest.unwrap().join("bin")
}

fn give(path: &Path) {
    if let Some((user, group)) = other() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// The user and the group of somebody else, if the tests are root.
fn other() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let mut lines = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines
        .find(|line| line[0] == USER)
        .expect("the user of PostgreSQL's package");
    Some((line[2].parse().unwrap(), line[3].parse().unwrap()))
}
