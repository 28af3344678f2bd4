//! The link: one connection to a Redis for all who use it, which is made again behind everybody's back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use super::{Address, value};
use crate::cache::Kept;

/// How long a connection may take to be made and let in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a Redis may take to keep an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before a connection is made again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A connection that lived so long was a good one: the next pause is a short one again.
const STEADY: Duration = Duration::from_secs(30);
/// Answers in a row that come too late, after which the connection is given up.
const LATE_MAX: u32 = 3;
/// Answers that wait to be written.
const BACKLOG: usize = 256;
/// Kibibytes of answers that wait to be written.
const BACKLOG_KIB: usize = 16 << 10;

/// The connection of everybody who uses one Redis.
#[derive(Debug)]
pub(super) struct Link {
    line: Arc<Line>,
    backlog: mpsc::Sender<Write>,
    room: Arc<Semaphore>,
    /// What makes the connection; it ends with this link.
    _keeping: JoinSet<()>,
}

/// The connection, while there is one.
#[derive(Debug, Default)]
struct Line {
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Answers in a row that came too late.
    late: AtomicU32,
    broken: Notify,
}

/// An answer that waits to be written.
struct Write {
    key: String,
    kept: Arc<Kept>,
    ttl: Duration,
    _room: OwnedSemaphorePermit,
}

impl Link {
    /// A link that begins to connect. Outside of a runtime of tokio's it never does.
    pub(super) fn new(address: Address) -> Self {
        let line = Arc::new(Line::default());
        let (backlog, writes) = mpsc::channel(BACKLOG);
        let mut keeping = JoinSet::new();
        if let Ok(runtime) = Handle::try_current() {
            let keep = keep(address, Arc::clone(&line), writes);
            keeping.spawn_on(keep, &runtime);
        }
        Self {
            line,
            backlog,
            room: Arc::new(Semaphore::new(BACKLOG_KIB)),
            _keeping: keeping,
        }
    }

    /// The values of keys, at most so many bytes of each; empty where there is none, `None` where Redis does not say.
    pub(super) async fn get(
        &self,
        keys: &[String; 2],
        bytes_max: usize,
        until: Instant,
    ) -> Option<[Vec<u8>; 2]> {
        let mut connection = self.line.connection.lock().clone()?;
        let mut asked = redis::pipe();
        for key in keys {
            // A part of the value where it is too long: whoever else writes there does not fill our memory.
            asked.cmd("GETRANGE").arg(key).arg(0).arg(bytes_max);
        }
        let found = asked.query_async::<(Vec<u8>, Vec<u8>)>(&mut connection);
        match timeout_at(until.into(), found).await {
            Ok(Ok((first, second))) => {
                self.line.late.store(0, Ordering::Relaxed);
                Some([first, second])
            }
            Ok(Err(error)) => {
                debug!(%error, "the cache's store gives no answer");
                None
            }
            Err(_) => {
                if LATE_MAX <= self.line.late.fetch_add(1, Ordering::Relaxed) + 1 {
                    self.line.broken.notify_one();
                }
                None
            }
        }
    }

    /// Writes an answer when it is its turn; leaves it out if there is no connection, or too much waits.
    pub(super) fn write(&self, key: String, kept: Arc<Kept>, ttl: Duration) {
        if self.line.connection.lock().is_none() || ttl.is_zero() {
            return;
        }
        let kib = u32::try_from(kept.body.len() / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(kib) else {
            debug!("the cache's store is slow, an answer is not kept there");
            return;
        };
        let write = Write {
            key,
            kept,
            ttl,
            _room: room,
        };
        // A full backlog is a slow store too.
        let _ = self.backlog.try_send(write);
    }
}

/// Keeps a connection for as long as the link is there.
async fn keep(address: Address, line: Arc<Line>, mut writes: mpsc::Receiver<Write>) {
    let mut pause = PAUSE;
    let mut is_told = false;
    loop {
        let connected = timeout(CONNECT_TIMEOUT, address.connect()).await;
        let reason = match connected {
            Ok(Ok((connection, driver))) => {
                info!(store = %address, "the cache's store is there");
                is_told = false;
                let begun = Instant::now();
                line.late.store(0, Ordering::Relaxed);
                *line.connection.lock() = Some(connection.clone());
                let reason = tokio::select! {
                    () = driver => "it has closed the connection",
                    () = line.broken.notified() => "it answers too late",
                    () = write_all(connection, &mut writes) => "it does not take answers",
                };
                *line.connection.lock() = None;
                if STEADY <= begun.elapsed() {
                    pause = PAUSE;
                }
                reason.to_owned()
            }
            // The error says what the host said, and nothing of the URL.
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        if !is_told {
            warn!(store = %address, reason, "the cache's store is gone, requests go on without it");
            is_told = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Writes answers until the store does not take one.
async fn write_all(mut connection: MultiplexedConnection, writes: &mut mpsc::Receiver<Write>) {
    loop {
        let Some(write) = writes.recv().await else {
            // The link is gone, and this task with it.
            return std::future::pending().await;
        };
        let millis = u64::try_from(write.ttl.as_millis()).unwrap_or(u64::MAX);
        let mut command = redis::cmd("SET");
        command.arg(&write.key).arg(value::encode(&write.kept));
        command.arg("PX").arg(millis.max(1));
        match timeout(WRITE_TIMEOUT, command.query_async::<()>(&mut connection)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.is_unrecoverable_error() => return,
            // A full store, or one that only reads.
            Ok(Err(error)) => debug!(%error, "the cache's store does not keep an answer"),
            Err(_) => return,
        }
    }
}
