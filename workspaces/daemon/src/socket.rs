//! The unix sockets between init and gate: bound for others, and found under paths of any length.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};

/// Bytes of a socket's path that the kernel takes, with the zero at its end (`unix(7)`, `sun_path`).
const PATH_BYTES_MAX: usize = 108;

/// Binds a socket that others may connect to: the other side has another user id, and the folder keeps strangers out.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let place = Place::of(path)?;
    // By the mask and not by a change of mode afterwards, which would follow a link that was put there meanwhile.
    let before = rustix::process::umask(Mode::XUSR | Mode::XGRP | Mode::XOTH);
    let listener = UnixListener::bind(&place.path);
    rustix::process::umask(before);
    listener
}

/// Connects to a socket.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let place = Place::of(path)?;
    UnixStream::connect(&place.path).await
}

/// A path that is short enough, by way of the held folder where it would not be.
struct Place {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket has no folder",
            ));
        };
        if path.as_os_str().len() < PATH_BYTES_MAX {
            return Ok(Self {
                path: path.to_owned(),
                _folder: None,
            });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Self {
            path,
            _folder: Some(folder),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{PATH_BYTES_MAX, bind, connect};

    #[tokio::test]
    async fn a_socket_is_found_under_a_path_of_any_length() {
        for length in [1, 2 * PATH_BYTES_MAX] {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("x".repeat(length));
            std::fs::create_dir(&folder).unwrap();
            let path = folder.join("init.sock");
            let listener = bind(&path).unwrap();
            let (connected, accepted) = tokio::join!(connect(&path), listener.accept());
            assert!(connected.is_ok() && accepted.is_ok());
        }
    }
}
