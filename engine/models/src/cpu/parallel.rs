//! Threads that share the chunks of one loop after the other.
//!
//! A layer of a small model takes well under a millisecond, so handing out work must cost about a microsecond:
//! workers look for the next loop for a moment before they sleep. The caller works too, and a loop ends when its
//! chunks are done, not when all workers have come: one that the system has put aside delays nobody.
#![expect(
    unsafe_code,
    reason = "a loop's closure is borrowed by other threads; results are written in place"
)]

use std::fmt;
use std::hint;
use std::marker::PhantomData;
use std::mem;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

/// How often a worker looks for work before it sleeps: about 50 µs.
const LOOKS_MAX: u32 = 1500;

/// Memory that a thread keeps from chunk to chunk.
pub(crate) type ThreadScratch = Vec<f32>;

type Chunk<'a> = dyn Fn(usize, &mut ThreadScratch) + Sync + 'a;

/// The threads of a backend.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    scratch: ThreadScratch,
}

impl fmt::Debug for Workers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Workers")
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

struct Shared {
    /// Counts loops; changes under the lock of `current`.
    turn: AtomicU64,
    current: Mutex<Option<Arc<Loop>>>,
    wake: Condvar,
    stop: AtomicBool,
}

struct Loop {
    work: *const Chunk<'static>,
    chunks: usize,
    next: AtomicUsize,
    done: AtomicUsize,
    has_panicked: AtomicBool,
}

// SAFETY: `work` points to a closure that is `Sync`, and it is only called before the loop's last chunk is done,
// while `Workers::run` keeps the closure alive.
unsafe impl Send for Loop {}
// SAFETY: as above; everything else is atomic.
unsafe impl Sync for Loop {}

impl Workers {
    /// Starts all threads but one, which is the caller's.
    pub(crate) fn start(threads: NonZeroUsize) -> Self {
        let shared = Arc::new(Shared {
            turn: AtomicU64::new(0),
            current: Mutex::new(None),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("compute-{index}"))
                .spawn(move || shared.work())
                .ok()
        };
        // With fewer threads than wished for the work takes longer and is the same.
        let threads = (1..threads.get()).filter_map(spawn).collect();
        Self {
            shared,
            threads,
            scratch: Vec::new(),
        }
    }

    /// Calls `work` for each chunk, on any thread, and returns when all are done.
    pub(crate) fn run(&mut self, chunks: usize, work: &Chunk<'_>) {
        if self.threads.is_empty() || chunks < 2 {
            for chunk in 0..chunks {
                work(chunk, &mut self.scratch);
            }
            return;
        }
        // SAFETY: only the lifetime changes. The closure is called for chunks below `chunks` only, each chunk is
        // counted as done after its call, and this function returns after all of them are done.
        let work = unsafe { mem::transmute::<*const Chunk<'_>, *const Chunk<'static>>(work) };
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let current = Arc::new(Loop {
            work,
            chunks,
            next,
            done,
            has_panicked: AtomicBool::new(false),
        });
        {
            let mut slot = self.shared.current.lock();
            *slot = Some(Arc::clone(&current));
            self.shared.turn.fetch_add(1, Ordering::Release);
        }
        self.shared.wake.notify_all();
        current.help(&mut self.scratch);
        current.wait();
        if current.has_panicked.load(Ordering::Acquire) {
            resume_unwind(Box::new("a chunk of a parallel loop panicked"));
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        {
            let _slot = self.shared.current.lock();
            self.shared.turn.fetch_add(1, Ordering::Release);
        }
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches the panics of its chunks, so there is nothing to learn from its end.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut scratch = ThreadScratch::new();
        let mut seen = 0;
        loop {
            seen = self.next_turn(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let current = self.current.lock().clone();
            if let Some(current) = current {
                current.help(&mut scratch);
            }
        }
    }

    /// Waits for a turn after `seen`, awake at first.
    fn next_turn(&self, seen: u64) -> u64 {
        for _ in 0..LOOKS_MAX {
            let turn = self.turn.load(Ordering::Acquire);
            if turn != seen {
                return turn;
            }
            hint::spin_loop();
        }
        let mut slot = self.current.lock();
        while self.turn.load(Ordering::Acquire) == seen {
            self.wake.wait(&mut slot);
        }
        self.turn.load(Ordering::Acquire)
    }
}

impl Loop {
    fn help(&self, scratch: &mut ThreadScratch) {
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if self.chunks <= chunk {
                return;
            }
            // SAFETY: this chunk is not yet done, so `Workers::run` has not returned and the closure lives.
            let work = unsafe { &*self.work };
            if catch_unwind(AssertUnwindSafe(|| work(chunk, scratch))).is_err() {
                self.has_panicked.store(true, Ordering::Release);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }

    fn wait(&self) {
        let mut looks = 0;
        while self.done.load(Ordering::Acquire) < self.chunks {
            looks += 1;
            if looks < LOOKS_MAX {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

/// A slice that the chunks of one loop write to, each its own part.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: access to the elements goes through `part`, whose callers promise that parts do not overlap.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) const fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            slice: PhantomData,
        }
    }

    /// One chunk's part.
    ///
    /// # Safety
    /// No other part that lives at the same time overlaps `range`.
    #[expect(
        clippy::mut_from_ref,
        reason = "the safety contract says why this is sound"
    )]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "a part outside the slice"
        );
        // SAFETY: the range is inside the slice that is borrowed for 'a, and the caller promises that it is not
        // aliased.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Workers;

    #[test]
    fn each_chunk_of_each_loop_is_done_once() {
        for threads in 1..=4 {
            let mut workers = Workers::start(NonZeroUsize::new(threads).unwrap());
            for chunks in (0..200).chain([10_000]) {
                let counts: Vec<_> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                workers.run(chunks, &|chunk, _| {
                    counts[chunk].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == 1),
                    "{threads} threads"
                );
            }
        }
    }

    #[test]
    fn a_panic_in_a_chunk_reaches_the_caller() {
        let result = std::panic::catch_unwind(|| {
            let mut workers = Workers::start(NonZeroUsize::new(2).unwrap());
            workers.run(8, &|chunk, _| assert_ne!(chunk, 5, "on purpose"));
        });
        assert!(result.is_err());
    }
}
