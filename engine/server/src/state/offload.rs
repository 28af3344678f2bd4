//! Work that takes its time, on threads of its own.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::warn;

type Work = Box<dyn FnOnce() + Send>;

/// The threads: as many as there are processors, since more work at once would end no sooner, and each thread that has
/// read a long text keeps memory for the next one. They end with this.
#[derive(Debug)]
pub(crate) struct Offload {
    work: Sender<Work>,
}

impl Offload {
    pub(crate) fn start() -> Self {
        Self::with_threads(thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }

    fn with_threads(count: usize) -> Self {
        let (work, received) = mpsc::channel();
        let received = Arc::new(Mutex::new(received));
        for index in 0..count {
            let received = Arc::clone(&received);
            let builder = thread::Builder::new().name(format!("offload-{index}"));
            if let Err(error) = builder.spawn(move || work_off(&received)) {
                warn!(%error, "a thread for long texts could not be started");
            }
        }
        Self { work }
    }

    /// Works as soon as a thread is free. Nothing if the work broke, or if there is no thread at all.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        let work = move || {
            // Nobody waits any longer for what a client that has gone away wanted.
            if !done.is_closed() {
                let _ = done.send(work());
            }
        };
        self.work.send(Box::new(work)).ok()?;
        outcome.await.ok()
    }
}

fn work_off(received: &Mutex<Receiver<Work>>) {
    loop {
        let work = received.lock().recv();
        let Ok(work) = work else { return };
        // Whoever waits for it is told by the end of its channel.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::Offload;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn work_waits_for_a_thread_and_is_dropped_with_its_client() {
        let offload = Offload::with_threads(1);
        let (end, ended) = mpsc::channel::<()>();
        let first = offload.run(move || ended.recv().unwrap());
        assert!(timeout(SHORT, first).await.is_err());
        let (noted, notes) = mpsc::channel();
        let abandoned = offload.run(move || noted.send(()));
        assert!(timeout(SHORT, abandoned).await.is_err());
        end.send(()).unwrap();
        assert_eq!(offload.run(|| 3).await, Some(3));
        assert!(notes.recv().is_err(), "work for nobody was done");
    }

    #[tokio::test]
    async fn broken_work_leaves_its_thread_alive() {
        let offload = Offload::with_threads(1);
        assert_eq!(offload.run(|| panic!("on purpose")).await, None::<()>);
        assert_eq!(offload.run(|| 1).await, Some(1));
    }
}
