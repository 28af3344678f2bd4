//! Runs pip and reads what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::source::error::FetchError;
use crate::source::uri::Package;
use crate::source::{Phase, Progress};

/// A pip that can continue downloads and report progress.
const NEWER_PIP: &str = "pip>=25.2";
/// Downloads that fail before the fetch does (and is tried again by whoever asked).
const ATTEMPTS_MAX: u32 = 4;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// A pip and what it can do.
#[derive(Debug)]
pub(super) struct Pip {
    /// What to run after `python3`.
    arguments: Vec<String>,
    can_resume: bool,
    has_raw_progress: bool,
}

impl Pip {
    /// The installed pip, or a newer one that it fetches into `folder`.
    pub(super) async fn find(folder: &Path) -> Result<Self, FetchError> {
        let installed = Self::probe(vec!["-m".to_owned(), "pip".to_owned()]).await?;
        if installed.can_resume && installed.has_raw_progress {
            return Ok(installed);
        }
        match installed.fetch_newer(&folder.join("pip")).await {
            Ok(newer) => Ok(newer),
            Err(error) => {
                warn!(%error, "no newer pip could be fetched; an interrupted download will start anew");
                Ok(installed)
            }
        }
    }

    async fn probe(arguments: Vec<String>) -> Result<Self, FetchError> {
        let pip = Self {
            arguments,
            can_resume: false,
            has_raw_progress: false,
        };
        let output = pip
            .run(["download".to_owned(), "--help".to_owned()])
            .await?;
        if !output.status.success() {
            let message =
                "pypi:// sources need pip, and `python3 -m pip` does not work; install python3-pip";
            return Err(FetchError::Setup(message.to_owned()));
        }
        let help = String::from_utf8_lossy(&output.stdout);
        let has_raw_progress = help.split("--progress-bar").nth(1).is_some_and(|help| {
            help.split("--")
                .next()
                .is_some_and(|help| help.contains("raw"))
        });
        Ok(Self {
            can_resume: help.contains("--resume-retries"),
            has_raw_progress,
            ..pip
        })
    }

    async fn fetch_newer(&self, folder: &Path) -> Result<Self, FetchError> {
        fs::create_dir_all(folder).map_err(|source| FetchError::cache(folder, source))?;
        let mut wheel = super::find_wheel(folder);
        if wheel.is_none() {
            let output = self.run(self.download_arguments(NEWER_PIP, folder)).await?;
            if !output.status.success() {
                return Err(explain(
                    NEWER_PIP,
                    &String::from_utf8_lossy(&output.stderr),
                    folder,
                ));
            }
            wheel = super::find_wheel(folder);
        }
        let wheel = wheel
            .ok_or_else(|| FetchError::Broken("pip succeeded and left no wheel".to_owned()))?;
        Self::probe(vec![wheel.join("pip").display().to_string()]).await
    }

    /// Downloads a package's wheel into `folder`, continuing or starting anew a few times.
    pub(super) async fn download(
        &self,
        package: &Package,
        folder: &Path,
        progress: Progress<'_>,
    ) -> Result<(), FetchError> {
        let requirement = format!("{}=={}", package.name, package.version);
        let (mut attempt, mut delay) = (1, RETRY_FIRST);
        loop {
            match self.download_once(&requirement, folder, progress).await {
                Err(error @ FetchError::Unreachable { .. }) if attempt < ATTEMPTS_MAX => {
                    warn!(%error, attempt, retry_in = ?delay, "pip could not download the package");
                }
                outcome => return outcome,
            }
            sleep(delay).await;
            (attempt, delay) = (attempt + 1, delay * 2);
        }
    }

    async fn download_once(
        &self,
        requirement: &str,
        folder: &Path,
        progress: Progress<'_>,
    ) -> Result<(), FetchError> {
        let mut command = self.command(self.download_arguments(requirement, folder));
        let mut child = command.spawn().map_err(no_python)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read_progress = async {
            let Some(stdout) = stdout else { return };
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match read_progress_line(&line) {
                    Some((done, total)) => progress(Phase::Downloading, done, total),
                    None => debug!(%line, "pip"),
                }
            }
        };
        let read_errors = async {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                // Whatever could be read is better than nothing; the rest is drained so that pip does not block.
                let _ = (&mut stderr)
                    .take(ERROR_BYTES_MAX)
                    .read_to_end(&mut text)
                    .await;
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&text).into_owned()
        };
        progress(Phase::Downloading, 0, None);
        let ((), errors, status) = tokio::join!(read_progress, read_errors, child.wait());
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(explain(requirement, &errors, folder)),
            Err(source) => Err(FetchError::Setup(format!(
                "pip could not be waited for: {source}"
            ))),
        }
    }

    fn download_arguments(&self, requirement: &str, folder: &Path) -> Vec<String> {
        let mut arguments = vec!["download".to_owned()];
        let fixed = [
            "--no-deps",
            "--only-binary=:all:",
            "--no-cache-dir",
            "--no-input",
            "--disable-pip-version-check",
        ];
        arguments.extend(fixed.map(str::to_owned));
        if self.has_raw_progress {
            arguments.push("--progress-bar=raw".to_owned());
        }
        if self.can_resume {
            arguments.push("--resume-retries=20".to_owned());
        }
        arguments.extend([
            "--dest".to_owned(),
            folder.display().to_string(),
            requirement.to_owned(),
        ]);
        arguments
    }

    fn command(&self, arguments: impl IntoIterator<Item = String>) -> Command {
        let mut command = Command::new("python3");
        command.args(&self.arguments).args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: impl IntoIterator<Item = String>) -> Result<Output, FetchError> {
        self.command(arguments).output().await.map_err(no_python)
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn no_python(source: std::io::Error) -> FetchError {
    FetchError::Setup(format!(
        "pypi:// sources need pip, and python3 cannot be started ({source}); install python3-pip"
    ))
}

/// A line of raw progress: `Progress 1024 of 4096`, without the end where it is not known.
pub(super) fn read_progress_line(line: &str) -> Option<(u64, Option<u64>)> {
    let mut words = line.trim().strip_prefix("Progress ")?.split(" of ");
    let done = words.next()?.trim().parse().ok()?;
    Some((
        done,
        words.next().and_then(|total| total.trim().parse().ok()),
    ))
}

/// What pip's last words mean.
pub(super) fn explain(requirement: &str, errors: &str, folder: &Path) -> FetchError {
    let says = |words: &[&str]| words.iter().any(|word| errors.contains(word));
    let what = format!("the package {requirement}");
    let connection = [
        "Connection",
        "connection",
        "timed out",
        "name resolution",
        "ReadTimeout",
        "IncompleteRead",
        "SSLError",
    ];
    if says(&["No space left on device", "Disk quota exceeded"]) {
        return FetchError::DiskFull {
            path: PathBuf::from(folder),
        };
    }
    if says(&["401 Client Error", "403 Client Error"]) {
        return FetchError::Unauthorized {
            what,
            said: String::new(),
        };
    }
    // pip also says that nothing matches when it could not ask.
    if says(&["No matching distribution found"]) && !says(&connection) {
        let advice =
            "check its name and version, that it has a wheel, and pip's index settings".to_owned();
        return FetchError::NotFound { what, advice };
    }
    let last = errors
        .lines()
        .rev()
        .find(|line| line.contains("ERROR"))
        .or_else(|| errors.lines().last());
    FetchError::Unreachable {
        what,
        reason: last.unwrap_or("pip said nothing").trim().to_owned(),
    }
}
