//! The exchange of what was made at run time: replicas take each other's changes, the later one of two counts.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use protocol::snapshot::Peer;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::People;
use crate::leases::{Answer, Fleet, Letter};

/// How often changes are asked for that nobody has told of.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a replica may take to tell its changes.
const CHANGES_LIMIT: Duration = Duration::from_secs(5);
/// How long those are waited for who are told of a change.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(2);
/// Pages of changes that are taken from one replica in a row.
const PAGES_MAX: usize = 1000;

/// Takes the changes of other replicas until shutdown.
pub(crate) async fn keep(people: Arc<People>, fleet: Arc<Fleet>, shutdown: CancellationToken) {
    let mut looks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = fleet.changed() => {}
            _ = looks.tick() => {}
        }
        if fleet.is_shared() {
            let others = fleet.others();
            join_all(others.iter().map(|peer| pull(&people, &fleet, peer))).await;
        }
    }
}

/// Tells the others that something has changed here; returns when those who can be reached have it.
pub(crate) async fn announce(fleet: &Fleet) {
    let others = fleet.others();
    let letter = Letter::Look {
        at: fleet.name().to_owned(),
    };
    let told = others
        .iter()
        .map(|peer| fleet.call(peer, &letter, ANNOUNCE_LIMIT));
    join_all(told).await;
}

/// Takes the changes of the replica of this name.
pub(crate) async fn look(people: &Arc<People>, fleet: &Fleet, name: &str) {
    let others = fleet.others();
    if let Some(peer) = others.iter().find(|peer| peer.name == name) {
        pull(people, fleet, peer).await;
    }
}

async fn pull(people: &Arc<People>, fleet: &Fleet, peer: &Peer) {
    for _ in 0..PAGES_MAX {
        let (store, after) = people.cursor(&peer.name);
        let letter = Letter::Changes { store, after };
        let answer = fleet.call(peer, &letter, CHANGES_LIMIT).await;
        let Ok(Answer::Changes(page)) = answer else {
            return;
        };
        let (people, name, has_more) = (Arc::clone(people), peer.name.clone(), page.has_more);
        let taken = tokio::task::spawn_blocking(move || people.heed(&name, page)).await;
        match taken {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                return warn!(
                    reason = fault.message,
                    "changes of another replica are not taken"
                );
            }
            Err(error) => return warn!(%error, "taking changes of another replica broke off"),
        }
        if !has_more {
            return;
        }
    }
}
