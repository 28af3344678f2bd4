//! Connects into a sandbox's network from a thread that joins it, which only root may.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Connects to a port in the network of process `pid`; blocks.
pub(super) fn dial(pid: u32, port: u16, limit: Duration) -> io::Result<TcpStream> {
    // The thread joins the sandbox's network, so it must end rather than return to a pool.
    let joining = thread::Builder::new()
        .name("sandbox-dial".to_owned())
        .spawn(move || {
            let network = File::open(format!("/proc/{pid}/ns/net"))?;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| refusal(error.into()))?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            TcpStream::connect_timeout(&address, limit)
        })?;
    joining
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the connecting thread failed")))
}

fn refusal(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let why = "only a node that runs as root reaches the network of a sandbox; use exec probes";
        return io::Error::new(error.kind(), why);
    }
    error
}
