//! Following the operator: a data plane's side of the snapshot stream.
//!
//! A data plane starts from the last good snapshot on disk, so that it serves without the operator; then it reads the
//! stream, applies each snapshot, keeps it and answers with an [`Ack`]. A lost stream is opened again with back-off.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::BytesMut;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::snapshot::{Ack, HEARTBEAT_SECONDS, LINE_BYTES_MAX, Snapshot};

/// A stream without a line for so long is dead: three heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(3 * HEARTBEAT_SECONDS);
/// First wait before the stream is opened again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest wait before the stream is opened again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where snapshots come from.
#[derive(Debug, Clone)]
pub struct FollowConfig {
    /// The operator's base URL, as `http://operator:8090`.
    pub url: String,
    /// A file with the bearer token; read again for each connection, since tokens rotate.
    pub token_file: PathBuf,
    /// This replica's name, unique among the replicas of the plane.
    pub node: String,
    /// Where the last good snapshot is kept, readable by the owner only.
    pub last_good: PathBuf,
}

/// Why a stream ended.
#[derive(Debug, Error)]
enum Interruption {
    #[error("reading the token from {path}")]
    Token { path: PathBuf, source: io::Error },
    #[error("talking to the operator")]
    Http(#[from] reqwest::Error),
    #[error("the operator sent nothing for {SILENCE_MAX:?}")]
    Silent,
    #[error("a snapshot is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the operator closed the stream")]
    Closed,
}

/// Applies snapshots until `shutdown`; `apply` refuses one by giving the reason, the last good one stays in use then.
pub async fn follow<S: Snapshot>(
    config: FollowConfig,
    mut apply: impl FnMut(S) -> Result<(), String> + Send,
    shutdown: CancellationToken,
) {
    if let Some(snapshot) = read_last_good::<S>(&config.last_good)
        && let Err(reason) = apply(snapshot)
    {
        tracing::warn!(%reason, "the last good snapshot on disk is not usable");
    }
    // Another part of the process may have installed the provider already; it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let mut retry = RETRY_MIN;
    loop {
        let mut stream = Stream {
            config: &config,
            client: &client,
            received: 0,
        };
        let interruption = tokio::select! {
            () = shutdown.cancelled() => return,
            interruption = stream.read(&mut apply) => interruption,
        };
        if 0 < stream.received {
            retry = RETRY_MIN;
        }
        tracing::debug!(error = %chain(&interruption), "snapshot stream interrupted");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(retry) => {}
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

struct Stream<'a> {
    config: &'a FollowConfig,
    client: &'a reqwest::Client,
    received: u64,
}

impl Stream<'_> {
    async fn read<S: Snapshot>(
        &mut self,
        apply: &mut (impl FnMut(S) -> Result<(), String> + Send),
    ) -> Interruption {
        match self.try_read(apply).await {
            Ok(()) => Interruption::Closed,
            Err(interruption) => interruption,
        }
    }

    async fn try_read<S: Snapshot>(
        &mut self,
        apply: &mut (impl FnMut(S) -> Result<(), String> + Send),
    ) -> Result<(), Interruption> {
        let token = self.token()?;
        let url = format!("{}/v1/snapshots/{}", self.config.url, S::PLANE);
        let node = format!("node={}", self.config.node);
        let request = self.client.get(format!("{url}?{node}")).bearer_auth(token);
        let mut response = request.send().await?.error_for_status()?;
        let mut buffer = BytesMut::new();
        loop {
            let chunk = tokio::time::timeout(SILENCE_MAX, response.chunk()).await;
            let Some(chunk) = chunk.map_err(|_| Interruption::Silent)?? else {
                return Ok(());
            };
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                self.received += 1;
                if let Some(ack) = self.take(&line[..end], apply) {
                    self.acknowledge::<S>(&ack).await?;
                }
            }
            if LINE_BYTES_MAX < buffer.len() {
                return Err(Interruption::TooLong);
            }
        }
    }

    fn take<S: Snapshot>(
        &self,
        line: &[u8],
        apply: &mut impl FnMut(S) -> Result<(), String>,
    ) -> Option<Ack> {
        if line.is_empty() {
            return None;
        }
        let node = self.config.node.clone();
        let snapshot: S = match serde_json::from_slice(line) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                return Some(Ack {
                    node,
                    version: String::new(),
                    error: Some(error.to_string()),
                });
            }
        };
        let version = snapshot.version().to_owned();
        if let Err(reason) = apply(snapshot) {
            tracing::warn!(%version, %reason, "snapshot refused");
            return Some(Ack {
                node,
                version,
                error: Some(reason),
            });
        }
        tracing::info!(%version, "snapshot applied");
        if let Err(error) = write_last_good(&self.config.last_good, line) {
            tracing::warn!(%error, path = %self.config.last_good.display(), "snapshot not kept on disk");
        }
        Some(Ack {
            node,
            version,
            error: None,
        })
    }

    async fn acknowledge<S: Snapshot>(&self, ack: &Ack) -> Result<(), Interruption> {
        let url = format!("{}/v1/snapshots/{}/acks", self.config.url, S::PLANE);
        let request = self.client.post(url).bearer_auth(self.token()?).json(ack);
        request
            .timeout(SILENCE_MAX)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    fn token(&self) -> Result<String, Interruption> {
        let path = &self.config.token_file;
        let token = std::fs::read_to_string(path).map_err(|source| Interruption::Token {
            path: path.clone(),
            source,
        })?;
        Ok(token.trim().to_owned())
    }
}

fn read_last_good<S: Snapshot>(path: &Path) -> Option<S> {
    let bytes = std::fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(snapshot) => Some(snapshot),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the last good snapshot on disk cannot be read");
            None
        }
    }
}

/// Writes beside the file and renames, so that a crash leaves the old or the new content.
fn write_last_good(path: &Path, line: &[u8]) -> io::Result<()> {
    use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt};
    let partial = path.with_extension("partial");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(line)?;
    file.sync_data()?;
    std::fs::rename(partial, path)
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
