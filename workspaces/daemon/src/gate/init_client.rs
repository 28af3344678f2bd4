//! Requests to the workspace's first process over its socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::fs::{FileType, Mode, OFlags};
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use crate::INIT_SOCKET;
use crate::fault::Refusal;

const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A way to the workspace's first process.
#[derive(Debug, Clone)]
pub(crate) struct InitClient {
    socket: PathBuf,
    connections: TaskTracker,
}

impl InitClient {
    pub(crate) fn new(socket_dir: &Path, connections: TaskTracker) -> Self {
        Self {
            socket: socket_dir.join(INIT_SOCKET),
            connections,
        }
    }

    /// Sends a request on a connection of its own; it closes with the answer's body, also when that is dropped.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Refusal> {
        let away = |why: String| Refusal::Unavailable(format!("the workspace is not up: {why}"));
        let socket = hold(&self.socket).map_err(|error| away(error.to_string()))?;
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let stream = tokio::time::timeout(CONNECT_MAX, UnixStream::connect(path))
            .await
            .map_err(|_| away("it does not answer".to_owned()))?
            .map_err(|error| away(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| away(error.to_string()))?;
        self.connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the workspace ended");
            }
        });
        sender
            .send_request(request)
            .await
            .map_err(|error| away(error.to_string()))
    }
}

/// Holds the socket itself: a link in its place could lead to a socket of the host's.
fn hold(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode);
    if kind != FileType::Socket {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its socket is something else",
        ));
    }
    Ok(socket)
}
