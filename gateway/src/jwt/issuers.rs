//! The issuers that routes trust: one for all routes that name it, its keys kept over tables.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use futures::future::join_all;
use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::snapshot::{self, TokenIssuer};
use tokio_util::sync::CancellationToken;

use super::{Digest, FLOOR, Issuer, Rejected, is_token};
use crate::{
    authorize::Caller,
    gateway::Gateway,
    people::Key,
    table::{InvalidSnapshot, Lasting, Route},
};

/// All issuers that any table in use names.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    known: Mutex<HashMap<TokenIssuer, Weak<Issuer>>>,
}

impl Registry {
    /// The issuer of these settings.
    fn issuer(&self, settings: &TokenIssuer) -> Result<Arc<Issuer>, String> {
        let mut known = self.known.lock();
        if let Some(issuer) = known.get(settings).and_then(Weak::upgrade) {
            return Ok(issuer);
        }
        let issuer = Arc::new(Issuer::of_route(settings)?);
        known.insert(settings.clone(), Arc::downgrade(&issuer));
        Ok(issuer)
    }

    /// Forgets the issuers that no table names any more.
    pub(crate) fn sweep(&self) {
        let mut known = self.known.lock();
        known.retain(|_, issuer| 0 < issuer.strong_count());
    }
}

/// Whose tokens a route takes.
#[derive(Debug)]
pub(crate) struct Trust {
    issuer: Arc<Issuer>,
    /// The teams whose tokens are taken; all tokens if there are none.
    teams: Vec<String>,
}

impl Trust {
    /// What a route says.
    ///
    /// # Errors
    /// [`InvalidSnapshot`]
    pub(crate) fn compile(
        route: &str,
        jwt: &snapshot::Jwt,
        lasting: &Lasting,
    ) -> Result<Self, InvalidSnapshot> {
        let issuer = lasting.issuers.issuer(&jwt.issuer);
        let issuer = issuer.map_err(|reason| InvalidSnapshot::Issuer {
            route: route.to_owned(),
            reason,
        })?;
        Ok(Self {
            issuer,
            teams: jwt.teams.clone(),
        })
    }

    /// Whether a key is a token that is taken.
    pub(crate) fn takes(&self, key: &Key) -> bool {
        let signed = key.signed.as_ref();
        let is_its = signed.is_some_and(|signed| signed.by == self.issuer.expected);
        let team = key.terms.as_ref().map_or("", |terms| terms.team.as_str());
        is_its && (self.teams.is_empty() || self.teams.iter().any(|one| one == team))
    }
}

/// The issuers of these routes, each once.
pub(crate) fn issuers(routes: &[Arc<Route>]) -> Vec<Arc<Issuer>> {
    let mut issuers: Vec<Arc<Issuer>> = Vec::new();
    for trust in routes.iter().filter_map(|route| route.jwt.as_ref()) {
        if !issuers
            .iter()
            .any(|issuer| issuer.expected == trust.issuer.expected)
        {
            issuers.push(Arc::clone(&trust.issuer));
        }
    }
    issuers
}

/// The holder of a token of one of these issuers; `None` if none of them is meant.
pub(crate) fn holder(
    issuers: &[Arc<Issuer>],
    token: &str,
    digest: Digest,
    lasting: &Lasting,
    now: Timestamp,
) -> Option<Result<Arc<Key>, Rejected>> {
    if issuers.is_empty() || !is_token(token) {
        return None;
    }
    let remembered = |issuer: &Arc<Issuer>| issuer.remembered(digest, now);
    if let Some(key) = issuers.iter().find_map(remembered) {
        return Some(Ok(key));
    }
    let meant = issuers.iter().find(|issuer| issuer.is_meant_by(token))?;
    Some(meant.holder(token, digest, lasting, now))
}

/// Looks for new keys of the issuers that a token may mean.
pub(crate) async fn refresh_for(issuers: &[Arc<Issuer>], token: &str) {
    let meant = issuers.iter().filter(|issuer| issuer.is_meant_by(token));
    join_all(meant.map(|issuer| issuer.refresh())).await;
}

/// Fetches the keys of the issuers that routes trust until shutdown: of new ones at once.
pub(crate) async fn follow(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let mut changes = gateway.changes();
    let following = async {
        loop {
            if let Ok(table) = gateway.table() {
                join_all(table.issuers.iter().map(|issuer| issuer.keep_fresh())).await;
            }
            // What ends the wait, a new table or the time, makes no difference.
            let _ = tokio::time::timeout(FLOOR, changes.changed()).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = shutdown.cancelled() => {}
    }
}

impl Caller {
    /// Whether the caller holds a token that a route takes.
    pub(crate) fn is_trusted_by(&self, route: &Route) -> bool {
        match (self, &route.jwt) {
            (Self::Key(key), Some(trust)) => trust.takes(key),
            (Self::Key(_) | Self::Nobody(_), _) => false,
        }
    }
}
