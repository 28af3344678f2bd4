//! Connects into a sandbox's network: from a thread where the node is root, else from a short process of our binary, since
//! only a process of one thread may enter the user namespace that owns the network.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::launcher::LAUNCH_COMMAND;

/// The launcher's flag for this errand.
pub(super) const DIAL_FLAG: &str = "--dial";
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Connects to a port in the network of process `pid`; blocks.
pub(super) fn dial(
    executable: &Path,
    pid: u32,
    port: u16,
    limit: Duration,
) -> io::Result<TcpStream> {
    // The thread joins the sandbox's network, so it must end rather than return to a pool.
    let joining = thread::Builder::new()
        .name("sandbox-dial".to_owned())
        .spawn(move || {
            join(pid, "net", LinkNameSpaceType::Network)?;
            connect(port, limit)
        })?;
    match joining.join() {
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            dial_by_process(executable, pid, port, limit)
        }
        Ok(result) => result,
        Err(_) => Err(io::Error::other("the connecting thread failed")),
    }
}

fn dial_by_process(
    executable: &Path,
    pid: u32,
    port: u16,
    limit: Duration,
) -> io::Result<TcpStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(limit))?;
    let mut child = Command::new(executable)
        .args([
            LAUNCH_COMMAND,
            DIAL_FLAG,
            &pid.to_string(),
            &port.to_string(),
        ])
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let received = receive(&ours);
    if received.is_err() {
        // It may have ended by itself.
        drop(child.kill());
    }
    child.wait()?;
    received.map(TcpStream::from)
}

/// The errand itself, in the new process: `PID PORT`; the connection goes out over standard input.
pub(super) fn run_errand(mut arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let mut number = || arguments.next()?.to_str()?.parse::<u32>().ok();
    let (Some(pid), Some(Ok(port))) = (number(), number().map(u16::try_from)) else {
        return Err("a process and a port must be named".to_owned());
    };
    // Both are opened before the first is entered, which changes what may be opened.
    let errand = || {
        let network = File::open(format!("/proc/{pid}/ns/net"))?;
        join(pid, "user", LinkNameSpaceType::User)?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        send(&connect(port, CONNECT_LIMIT)?)
    };
    errand().map_err(|error: io::Error| error.to_string())
}

fn join(pid: u32, name: &str, kind: LinkNameSpaceType) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/{name}"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(kind))?)
}

fn connect(port: u16, limit: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit)
}

fn send(connection: &TcpStream) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [connection.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let stdin = rustix::stdio::stdin();
    sendmsg(
        stdin,
        &[IoSlice::new(&[1])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = received
        .next()
        .and_then(|mut descriptors| descriptors.next());
    descriptor.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))
}
