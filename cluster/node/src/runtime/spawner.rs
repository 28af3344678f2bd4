//! The one thread that starts processes. The kernel ends a child when the *thread* that made it ends, so it lives as long as
//! the node does.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Request = (Command, oneshot::Sender<io::Result<Child>>);

/// A handle to the spawning thread, which ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    pub(crate) fn start() -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let runtime = Handle::current();
        thread::Builder::new()
            .name("node-spawner".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                for (mut command, reply) in inbox {
                    // A receiver that went away drops the child, which was set to be killed then.
                    drop(reply.send(command.spawn()));
                }
            })?;
        Ok(Self { requests })
    }

    /// Starts a process that dies when the returned child is dropped or the node ends.
    pub(crate) async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.kill_on_drop(true);
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the spawning thread has ended");
        self.requests.send((command, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
