//! A watch of a kind whose definition need not be installed: empty without it, and filled once it is there.

use std::time::Duration;

use kube::{
    Api,
    runtime::{reflector::store::Writer, watcher},
};
use tokio_util::sync::CancellationToken;

use super::watch::{Watched, watch};

/// How long a kind that is not there is left alone before it is looked for again.
pub(super) const ABSENCE_PAUSE: Duration = Duration::from_secs(15);

/// Runs until `shutdown`; while the API server does not have the kind, or does not let us read it, there are no objects,
/// and it is looked for again after each `pause`.
pub(super) async fn watch_if_there<K: Watched>(
    api: Api<K>,
    mut writer: Writer<K>,
    wake: impl Fn(&K) + Send + Sync,
    pause: Duration,
    shutdown: CancellationToken,
) {
    let kind = K::kind(&()).into_owned();
    let mut told = None;
    loop {
        let why = parking_lot::Mutex::new(None);
        let is_over = |error: &watcher::Error| {
            let absence = absence(error);
            *why.lock() = absence;
            absence.is_some()
        };
        let config = watcher::Config::default();
        watch(api.clone(), config, &mut writer, &wake, is_over, &shutdown).await;
        if shutdown.is_cancelled() {
            return;
        }
        empty(&mut writer, &wake);
        let why = why.into_inner();
        // Once for each reason, not once for each look.
        if told != why {
            told = why;
            match why {
                Some(Absence::Forbidden) => {
                    tracing::warn!(%kind, "the operator may not read this kind; none is used");
                }
                Some(Absence::Missing) | None => {
                    tracing::info!(%kind, "the cluster does not have this kind; none is used");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Why there are no objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// Its definition is not installed.
    Missing,
    /// The operator may not read it.
    Forbidden,
}

/// Whether an error says that the kind is not there for us.
fn absence(error: &watcher::Error) -> Option<Absence> {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => return None,
    };
    match code {
        404 => Some(Absence::Missing),
        403 => Some(Absence::Forbidden),
        _ => None,
    }
}

/// Takes all objects away, and tells whom that concerns; readers are told that nothing is missing.
fn empty<K: Watched>(writer: &mut Writer<K>, wake: impl Fn(&K)) {
    let before = writer.as_reader().state();
    writer.apply_watcher_event(&watcher::Event::Init);
    writer.apply_watcher_event(&watcher::Event::InitDone);
    before.iter().for_each(|object| wake(object));
}

#[cfg(test)]
mod tests;
