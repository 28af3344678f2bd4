//! What can run a container: our own executable as a supervised process, or any image in a sandbox.

pub(crate) mod cgroup;
pub(crate) mod dial;
pub(crate) mod launcher;
pub(crate) mod leftovers;
pub(crate) mod process;
pub(crate) mod sandbox;
pub(crate) mod session;
pub(crate) mod spawner;
pub(crate) mod terminal;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::environment::Variables;
use crate::images::Image;
use crate::pod::wanted::PodId;

/// Something to read bytes from.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Something to write bytes to.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A folder or file of the host that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

/// What a container may use; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu_milli: Option<u64>,
}

/// A container about to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) pod: PodId,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) image: Image,
    /// Replaces the image's entry point.
    pub(crate) command: Option<Vec<String>>,
    pub(crate) args: Option<Vec<String>>,
    pub(crate) environment: Variables,
    pub(crate) working_dir: Option<String>,
    pub(crate) hostname: String,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) limits: Limits,
    pub(crate) security: SecurityContext,
    pub(crate) pod_security: PodSecurityContext,
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
    /// The Pod's own folder on the host.
    pub(crate) folder: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) out_of_memory: bool,
}

/// Why a container did not start, in the words of a container status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub(crate) struct StartError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl StartError {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// A started container with its streams.
pub(crate) struct Started {
    pub(crate) container: Arc<dyn RunningContainer>,
    pub(crate) stdin: Option<Writer>,
    pub(crate) stdout: Reader,
    /// Absent with a terminal, where both streams are one.
    pub(crate) stderr: Option<Reader>,
}

/// A command to run beside a container's own process.
#[derive(Clone, Debug)]
pub(crate) struct ExecRequest {
    pub(crate) command: Vec<String>,
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

/// A command that runs in a container.
pub(crate) struct Session {
    pub(crate) stdin: Option<Writer>,
    pub(crate) stdout: Option<Reader>,
    pub(crate) stderr: Option<Reader>,
    pub(crate) terminal: Option<terminal::Terminal>,
    /// Resolves when the command has ended. Dropping it ends the command.
    pub(crate) ended: BoxFuture<'static, io::Result<Ended>>,
}

/// A container that runs.
pub(crate) trait RunningContainer: Send + Sync {
    fn id(&self) -> String;
    /// One line for the Pod's status: `isolated…` or `not isolated…`.
    fn isolation(&self) -> String;
    /// Resolves when the main process has ended; may be asked for many times.
    fn ended(&self) -> BoxFuture<'static, Ended>;
    /// Asks the main process to end.
    fn terminate(&self);
    /// Ends every process of the container.
    fn kill(&self);
    /// Gives back what the container held on the host, after it has ended.
    fn remove(&self) -> BoxFuture<'static, ()>;
    fn exec(&self, request: ExecRequest) -> BoxFuture<'static, io::Result<Session>>;
    /// Connects to a port of the container.
    fn connect(&self, port: u16, limit: Duration) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// Starts containers of one kind.
pub(crate) trait Runtime: Send + Sync {
    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, StartError>>;
}
