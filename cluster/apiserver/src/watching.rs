//! Watches: a shelf's history as a stream of frames, with bookmarks, initial events and the shapes of lists.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::call::Call;
use crate::negotiate::{Format, negotiate};
use crate::present::{self, View};
use crate::reading::{check_options, revision};
use crate::response::{Body, streamed, with_type};
use crate::selection::Selection;
use crate::status::{ApiError, quoted};
use crate::store::{Entry, Event, EventKind, WatchEnded, Watcher};

/// How often a quiet watch tells its revision.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a watch lasts at least when the client sets no limit; up to twice as long.
const LIFETIME_MIN: Duration = Duration::from_secs(1800);
/// Frames that are ready together share a piece of at most about this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Opens a watch.
pub(crate) fn watch(call: &Call) -> Result<Response<Body>, ApiError> {
    let (shape, format) = negotiate(call.headers())?;
    if format != Format::Json {
        return Err(ApiError::not_acceptable(&["application/json"]));
    }
    check_options(call)?;
    let selection = Selection::of(call)?;
    let lifetime = lifetime(call)?;
    let (start, initial) = start(call)?;
    let store = &call.api.store;
    let snapshot = store.snapshot(&call.resource.shelf);
    let from = start.unwrap_or(snapshot.revision);
    let mut stream = WatchStream {
        watcher: store.watch(
            &call.resource.shelf,
            if initial == Initial::No {
                from
            } else {
                snapshot.revision
            },
        ),
        view: View::of(call, shape),
        initial: VecDeque::new(),
        initial_end: (initial == Initial::Marked).then_some(snapshot.revision),
        frames: VecDeque::new(),
        bookmarks: call.query.is_true("allowWatchBookmarks"),
        next_bookmark: Instant::now() + BOOKMARK_INTERVAL,
        deadline: Instant::now() + lifetime,
        shutdown: call.api.shutdown.clone(),
        ended: false,
        selection,
    };
    if initial != Initial::No {
        let selection = &stream.selection;
        let chosen = selection
            .range(&snapshot, None)
            .filter(|(key, entry)| selection.selects(key, entry));
        stream.initial = chosen.map(|(_, entry)| Arc::clone(entry)).collect();
    }
    let pieces = futures::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next_piece().await?;
        Some((piece, stream))
    });
    Ok(with_type(
        StatusCode::OK,
        "application/json",
        streamed(pieces),
    ))
}

/// Whether a watch starts with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Initial {
    No,
    Yes,
    /// And says where that ends.
    Marked,
}

fn start(call: &Call) -> Result<(Option<u64>, Initial), ApiError> {
    let version = call
        .query
        .get("resourceVersion")
        .map(revision)
        .transpose()?;
    let wanted = call.query.get("sendInitialEvents");
    let marked = if call.query.is_true("allowWatchBookmarks") {
        Initial::Marked
    } else {
        Initial::Yes
    };
    Ok(match (wanted, version) {
        (Some("true" | "1"), asked) => {
            let current = call.api.store.revision();
            if let Some(asked) = asked.filter(|asked| *asked > current) {
                return Err(ApiError::too_large_resource_version(asked, current));
            }
            (None, marked)
        }
        (Some(_), None | Some(0)) => (None, Initial::No),
        (None, None | Some(0)) => (None, Initial::Yes),
        (_, Some(version)) => (Some(version), Initial::No),
    })
}

fn lifetime(call: &Call) -> Result<Duration, ApiError> {
    let Some(text) = call.query.get("timeoutSeconds") else {
        return Ok(LIFETIME_MIN.mul_f64(1.0 + rand::random::<f64>()));
    };
    let seconds: i64 = text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {}: invalid syntax",
            quoted(text)
        ))
    })?;
    Ok(u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map_or(LIFETIME_MIN, Duration::from_secs))
}

/// The state of one watch.
struct WatchStream {
    watcher: Watcher,
    selection: Selection,
    view: View,
    initial: VecDeque<Arc<Entry>>,
    initial_end: Option<u64>,
    frames: VecDeque<Bytes>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    shutdown: CancellationToken,
    ended: bool,
}

impl WatchStream {
    async fn next_piece(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready_piece() {
                return Some(piece);
            }
            if self.ended {
                return None;
            }
            let shutdown = self.shutdown.clone();
            tokio::select! {
                events = self.watcher.next() => self.take(events),
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark += BOOKMARK_INTERVAL;
                    self.bookmark();
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    self.ended = true;
                }
                () = shutdown.cancelled() => self.ended = true,
            }
        }
    }

    /// What can be sent now, several frames at once.
    fn ready_piece(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::new();
        while piece.len() < PIECE_BYTES {
            if let Some(entry) = self.initial.pop_front() {
                piece.extend_from_slice(&self.view.frame("ADDED", &entry));
                continue;
            }
            if let Some(revision) = self.initial_end.take() {
                piece.extend_from_slice(&self.view.bookmark(revision, true));
                continue;
            }
            let Some(frame) = self.frames.pop_front() else {
                break;
            };
            piece.extend_from_slice(&frame);
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }

    fn bookmark(&mut self) {
        let frame = self.view.bookmark(self.watcher.cursor(), false);
        self.frames.push_back(frame);
    }

    fn take(&mut self, events: Result<Vec<Arc<Event>>, WatchEnded>) {
        match events {
            Ok(events) => {
                for event in events {
                    if let Some(frame) = self.frame(&event) {
                        self.frames.push_back(frame);
                    }
                }
            }
            Err(WatchEnded::Closed) => self.ended = true,
            Err(WatchEnded::Expired { asked, oldest }) => {
                let error =
                    ApiError::expired(format!("too old resource version: {asked} ({oldest})"));
                self.frames.push_back(present::frame_bytes(
                    "ERROR",
                    error.to_status().to_string().as_bytes(),
                ));
                self.ended = true;
            }
        }
    }

    /// A change as this watch sees it: an object may come into or leave its selection.
    fn frame(&mut self, event: &Event) -> Option<Bytes> {
        let selects = |entry: &Entry| self.selection.selects(&event.key, entry);
        let before = event.previous.as_deref().is_some_and(selects);
        let after = event.kind == EventKind::Put && selects(&event.entry);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(self.view.frame("ADDED", &event.entry)),
            (true, true) => Some(self.view.frame("MODIFIED", &event.entry)),
            (true, false) if event.kind == EventKind::Delete => {
                Some(self.view.frame("DELETED", &event.entry))
            }
            (true, false) => {
                // The object as it was, at the revision at which it left.
                let mut last = event.previous.as_deref().map_or(Value::Null, Entry::value);
                last["metadata"]["resourceVersion"] = json!(event.revision.to_string());
                Some(self.view.frame_value("DELETED", last))
            }
        }
    }
}
