//! Frames between a caller and its helper: a length, JSON, and file descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request holds arguments, an environment and a seccomp program: 4 MiB is far above all of it.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// Standard streams, and a process.
const DESCRIPTORS_MAX: usize = 4;

/// Sends one message with descriptors.
pub(crate) fn send<T: Serialize>(
    mut stream: &UnixStream,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= FRAME_BYTES_MAX)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "message too long"))?
        .to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(&length)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    stream.write_all(&length[sent..])?;
    stream.write_all(&body)
}

/// Receives one message with its descriptors; `None` at the end of the stream.
pub(crate) fn receive<T: DeserializeOwned>(
    mut stream: &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0; 4];
    let mut descriptors = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut length)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(message) => break message.bytes,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[received..])?;
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message too long",
        ));
    }
    let mut body = vec![0; bytes];
    stream.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_message_arrives_whole_and_with_its_descriptors() {
        let (left, right) = UnixStream::pair().unwrap();
        let long = "x".repeat(300_000);
        let sender = std::thread::spawn({
            let long = long.clone();
            move || {
                let null = std::fs::File::open("/dev/null").unwrap();
                send(&left, &long, &[null.as_fd(), null.as_fd()]).unwrap();
                send(&left, &"short", &[]).unwrap();
            }
        });
        let (body, descriptors) = receive::<String>(&right).unwrap().unwrap();
        assert_eq!((body == long, descriptors.len()), (true, 2));
        let (body, descriptors) = receive::<String>(&right).unwrap().unwrap();
        assert_eq!((body.as_str(), descriptors.len()), ("short", 0));
        sender.join().unwrap();
        assert!(receive::<String>(&right).unwrap().is_none());
    }
}
