//! A clock that goes on only where nobody can: a second of waiting takes no time.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{
    executor::LocalPool,
    future::{BoxFuture, Either, select},
    task::LocalSpawnExt,
};
use parking_lot::Mutex;

/// The clock, and the tasks that run by it.
#[derive(Clone, Default)]
pub(super) struct Clock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Duration,
    count: u64,
    waiting: BTreeMap<(Duration, u64), Waker>,
    tasks: VecDeque<BoxFuture<'static, ()>>,
}

struct Sleep {
    clock: Clock,
    until: Duration,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.0.lock();
        if self.until <= state.now {
            return Poll::Ready(());
        }
        state.count += 1;
        let place = (self.until, state.count);
        state.waiting.insert(place, context.waker().clone());
        Poll::Pending
    }
}

impl Clock {
    /// What has passed.
    pub(super) fn now(&self) -> Duration {
        self.0.lock().now
    }

    /// Waits.
    pub(super) fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + 'static {
        Sleep {
            clock: self.clone(),
            until: self.now() + time,
        }
    }

    /// Waits for something so long.
    pub(super) async fn within<F: Future + Unpin>(
        &self,
        time: Duration,
        work: F,
    ) -> Option<F::Output> {
        match select(work, Box::pin(self.sleep(time))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(((), _)) => None,
        }
    }

    /// Runs a task beside the others.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().tasks.push_back(Box::pin(task));
    }

    /// Runs until the work is done.
    pub(super) fn run(&self, work: impl Future<Output = ()> + 'static) {
        let mut pool = LocalPool::new();
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        let work = async move {
            work.await;
            done.set(true);
        };
        pool.spawner().spawn_local(work).unwrap();
        while !is_done.get() {
            let tasks = std::mem::take(&mut self.0.lock().tasks);
            let is_stalled = tasks.is_empty();
            for task in tasks {
                pool.spawner().spawn_local(task).unwrap();
            }
            pool.run_until_stalled();
            if is_stalled && self.0.lock().tasks.is_empty() && !is_done.get() {
                self.advance();
            }
        }
        self.0.lock().waiting.clear();
    }

    fn advance(&self) {
        let mut state = self.0.lock();
        let (next, _) = *state
            .waiting
            .keys()
            .next()
            .expect("somebody waits for something");
        state.now = state.now.max(next);
        let later = state.waiting.split_off(&(next, u64::MAX));
        let due = std::mem::replace(&mut state.waiting, later);
        drop(state);
        due.into_values().for_each(Waker::wake);
    }
}
