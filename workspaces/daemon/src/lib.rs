//! The doors into a sandbox: exec, files, egress.
//!
//! Two processes. *init* is process 1 of the workspace container: it starts programs, each confined anew, and keeps the
//! files; it has no secret and no network but its loopback. The *gate* stands outside, in a container of its own: it holds
//! the token, keeps results and the audit, and is the only way to the network, by a proxy that refuses what is not allowed.
//! They talk over two unix sockets in a folder that programs cannot enter: `init.sock` (gate to init) and `egress.sock`
//! (init to gate).

mod fault;
mod files;
mod gate;
mod init;
mod socket;

pub use gate::egress::{Network, Proxy, ProxyConfig};
pub use gate::policy::{AllowList, InvalidDomain};
pub use gate::{GateArgs, GateError, run_gate};
pub use init::{InitArgs, InitError, run_init};

/// The socket that init listens on, in the socket folder.
pub(crate) const INIT_SOCKET: &str = "init.sock";
/// The socket that the gate's egress proxy listens on, in the socket folder.
pub(crate) const EGRESS_SOCKET: &str = "egress.sock";
