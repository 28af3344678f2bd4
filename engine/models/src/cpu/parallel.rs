//! Threads that share the chunks of one loop after the other.
//!
//! A layer of a small model takes well under a millisecond, so handing out work must cost less than a microsecond:
//! nothing is allocated or locked, and workers look for the next loop for a moment before they sleep. Each thread has
//! a queue of chunks and takes from the others' when its own is empty. The caller works too, and a loop ends when its
//! chunks are done, not when all workers have come: one that the system has put aside delays nobody.
#![expect(
    unsafe_code,
    reason = "a loop's closure is borrowed by other threads; results are written in place"
)]

use std::cell::UnsafeCell;
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
use std::time::{Duration, Instant};

/// How long a worker looks for the next loop before it sleeps.
const AWAKE: Duration = Duration::from_micros(50);
/// How often a thread looks before it asks for the time, or lets others run.
const LOOKS: u32 = 64;

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

/// A value with two cache lines of its own, which the processor fetches together.
#[repr(align(128))]
struct Lines<T>(T);

/// What the caller tells the workers.
struct Post {
    /// Counts loops.
    turn: AtomicU64,
    /// What to do with a chunk. Written by the caller while no chunk is left, read by whoever has taken a chunk.
    work: UnsafeCell<Option<*const Chunk<'static>>>,
}

struct Shared {
    post: Lines<Post>,
    /// Chunks that are left, for each thread: the first one in the lower half, the end in the upper half. A thread
    /// takes a chunk by adding 1; it has got one if the first was below the end.
    queues: Box<[Lines<AtomicU64>]>,
    /// Chunks that workers have done.
    done: Lines<AtomicUsize>,
    sleepers: AtomicUsize,
    has_panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `work` is written only while all queues are empty, and read only by a thread that has taken a chunk; taking
// it has acquired what was written before the queue was filled. It points to a closure that is `Sync`.
unsafe impl Send for Shared {}
// SAFETY: as above; everything else is atomic.
unsafe impl Sync for Shared {}

impl Workers {
    /// Starts all threads but one, which is the caller's.
    pub(crate) fn start(threads: NonZeroUsize) -> Self {
        let shared = Arc::new(Shared {
            post: Lines(Post {
                turn: AtomicU64::new(0),
                work: UnsafeCell::new(None),
            }),
            queues: (0..threads.get())
                .map(|_| Lines(AtomicU64::new(0)))
                .collect(),
            done: Lines(AtomicUsize::new(0)),
            sleepers: AtomicUsize::new(0),
            has_panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("compute-{index}"))
                .spawn(move || shared.serve(index))
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

    /// How many threads compute.
    pub(crate) const fn count(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `work` for each chunk, on any thread, and returns when all are done. Chunks are best ordered so that the
    /// longest come first.
    pub(crate) fn run(&mut self, chunks: usize, work: &Chunk<'_>) {
        if self.threads.is_empty() || chunks < 2 {
            self.run_here(chunks, work);
            return;
        }
        // SAFETY: only the lifetime changes. The closure is called for chunks below `chunks` only, each chunk is
        // counted as done after its call, and this function returns after all of them are done.
        let work = unsafe { mem::transmute::<*const Chunk<'_>, *const Chunk<'static>>(work) };
        let shared = &*self.shared;
        shared.publish(chunks, work);
        if 0 < shared.sleepers.load(Ordering::SeqCst) {
            for thread in &self.threads {
                thread.thread().unpark();
            }
        }
        let mine = shared.help(0, &mut self.scratch);
        shared.wait(chunks - mine);
        if shared.has_panicked.swap(false, Ordering::AcqRel) {
            resume_unwind(Box::new("a chunk of a parallel loop panicked"));
        }
    }

    /// Calls `work` for each chunk on the caller's thread.
    pub(crate) fn run_here(&mut self, chunks: usize, work: &Chunk<'_>) {
        for chunk in 0..chunks {
            work(chunk, &mut self.scratch);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.post.0.turn.fetch_add(1, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A worker catches the panics of its chunks, so there is nothing to learn from its end.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Fills the queues. All chunks of the loop before are done.
    fn publish(&self, chunks: usize, work: *const Chunk<'static>) {
        self.done.0.store(0, Ordering::Relaxed);
        // SAFETY: all queues are empty, so no thread has taken a chunk and reads this.
        unsafe { *self.post.0.work.get() = Some(work) };
        let threads = self.queues.len();
        for (index, queue) in self.queues.iter().enumerate() {
            let (first, end) = (chunks * index / threads, chunks * (index + 1) / threads);
            queue
                .0
                .store((end as u64) << 32 | first as u64, Ordering::Release);
        }
        self.post.0.turn.fetch_add(1, Ordering::SeqCst);
    }

    fn serve(&self, index: usize) {
        let mut scratch = ThreadScratch::new();
        let mut seen = 0;
        loop {
            seen = self.next_turn(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let done = self.help(index, &mut scratch);
            if 0 < done {
                self.done.0.fetch_add(done, Ordering::Release);
            }
        }
    }

    /// Waits for a turn after `seen`, awake at first.
    fn next_turn(&self, seen: u64) -> u64 {
        let turn = || self.post.0.turn.load(Ordering::SeqCst);
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                let turn = turn();
                if turn != seen {
                    return turn;
                }
                hint::spin_loop();
            }
            if AWAKE < start.elapsed() {
                break;
            }
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Whoever changes the turn after this look sees a sleeper.
        while turn() == seen {
            thread::park();
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        turn()
    }

    /// Takes chunks until none is left, and returns how many.
    fn help(&self, index: usize, scratch: &mut ThreadScratch) -> usize {
        let (before, after) = self.queues.split_at(index);
        let mut done = 0;
        for queue in after.iter().chain(before) {
            while let Some(chunk) = take(&queue.0) {
                // SAFETY: nobody writes the place while a chunk is not done, as this one is.
                let work = unsafe { *self.post.0.work.get() };
                // SAFETY: for the same reason `Workers::run` has not returned, and the closure lives.
                let call = || work.map(|work| unsafe { (*work)(chunk, scratch) });
                if catch_unwind(AssertUnwindSafe(call)).is_err() {
                    self.has_panicked.store(true, Ordering::Release);
                }
                done += 1;
            }
        }
        done
    }

    fn wait(&self, chunks: usize) {
        let mut looks = 0;
        while self.done.0.load(Ordering::Acquire) < chunks {
            looks += 1;
            if looks < LOOKS * LOOKS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

/// Takes a chunk from a queue, if one is left.
fn take(queue: &AtomicU64) -> Option<usize> {
    let chunk = |queue: u64| {
        let (next, end) = (queue & u64::from(u32::MAX), queue >> 32);
        (next < end).then_some(next as usize)
    };
    chunk(queue.load(Ordering::Relaxed))?;
    chunk(queue.fetch_add(1, Ordering::AcqRel))
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

    /// Where a range begins: for parts of several chunks that interleave in it.
    pub(crate) fn place(&self, range: Range<usize>) -> *mut T {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "a part outside the slice"
        );
        // SAFETY: the range is inside the slice.
        unsafe { self.start.add(range.start) }
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
    fn workers_that_sleep_are_woken() {
        let mut workers = Workers::start(NonZeroUsize::new(3).unwrap());
        let is_asleep = |workers: &Workers| workers.shared.sleepers.load(Ordering::SeqCst) == 2;
        for _ in 0..20 {
            while !is_asleep(&workers) {
                std::thread::yield_now();
            }
            // Each thread's first chunk ends when all have one.
            let started = AtomicUsize::new(0);
            workers.run(3, &|_, _| {
                started.fetch_add(1, Ordering::SeqCst);
                while started.load(Ordering::SeqCst) < 3 {
                    std::thread::yield_now();
                }
            });
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
