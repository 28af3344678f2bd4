//! Work that takes its time, off the threads that serve.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use tokio::sync::Semaphore;
use tokio::task;

/// As much work at once as there are processors: more would end no sooner, and each thread that has read a long text
/// keeps memory for the next one. What waits is bounded by the memory that bodies may take.
#[derive(Debug)]
pub(crate) struct Offload {
    free: Arc<Semaphore>,
}

impl Offload {
    pub(crate) fn new() -> Self {
        Self::at_once(thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }

    fn at_once(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
        }
    }

    /// Works as soon as its turn has come. Nothing if the work broke.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.free).acquire_owned().await.ok()?;
        // The turn is over when the work is, even if its client goes away before.
        let work = task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        work.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::Offload;

    #[tokio::test]
    async fn work_waits_for_its_turn_and_is_dropped_with_its_client() {
        let offload = Offload::at_once(1);
        let (end, ended) = mpsc::channel::<()>();
        let mut first = Box::pin(offload.run(move || ended.recv().unwrap()));
        assert!(first.as_mut().now_or_never().is_none());
        let (noted, notes) = mpsc::channel();
        let mut abandoned = Box::pin(offload.run(move || noted.send(())));
        assert!(abandoned.as_mut().now_or_never().is_none());
        drop(abandoned);
        assert!(notes.recv().is_err(), "work for nobody was done");
        end.send(()).unwrap();
        assert_eq!(first.await, Some(()));
        assert_eq!(offload.run(|| 3).await, Some(3));
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_end_a_turn_early() {
        let offload = Offload::at_once(1);
        let (end, ended) = mpsc::channel::<()>();
        let mut first = Box::pin(offload.run(move || ended.recv().unwrap()));
        assert!(first.as_mut().now_or_never().is_none());
        drop(first);
        let mut second = Box::pin(offload.run(|| 2));
        assert!(second.as_mut().now_or_never().is_none());
        end.send(()).unwrap();
        assert_eq!(second.await, Some(2));
    }

    #[tokio::test]
    async fn broken_work_gives_its_turn_back() {
        let offload = Offload::at_once(1);
        assert_eq!(offload.run(|| panic!("on purpose")).await, None::<()>);
        assert_eq!(offload.run(|| 1).await, Some(1));
    }
}
