//! Leader election by a Lease: held for 15 s, renewed every 2 s, given up when it could not be renewed for 10 s.
//!
//! Only the leader writes. Every write asks [`Leadership::is_held`], so that a leader that was asleep does not write
//! on an expired lease. A replica that finds its own name in the lease takes it at once: Pods have one container, so
//! the process before it is gone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// How long a lease holds without renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How long the leader goes on without having renewed.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or asked for.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// The lease's name.
const NAME: &str = "quarterdeck-operator";

/// Whether this replica leads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leadership {
    valid_until: Arc<Mutex<Option<Instant>>>,
}

impl Leadership {
    pub(crate) fn is_held(&self) -> bool {
        self.valid_until
            .lock()
            .is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn extend(&self, from: Instant) {
        *self.valid_until.lock() = Some(from + RENEW_DEADLINE);
    }

    fn end(&self) {
        *self.valid_until.lock() = None;
    }
}

#[derive(Debug, Error)]
enum LeaseError {
    #[error("talking to the API server")]
    Api(#[from] kube::Error),
    #[error("the API server did not answer within {RETRY_PERIOD:?}")]
    Slow,
}

/// Takes part in the election until `shutdown`, telling `leading` whenever this replica starts or stops to lead.
pub(crate) struct Election {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) identity: String,
    pub(crate) leadership: Leadership,
}

impl Election {
    /// Waits until this replica leads; false if `shutdown` came first.
    pub(crate) async fn acquire(&self, shutdown: &CancellationToken) -> bool {
        loop {
            let asked = Instant::now();
            match self.within_period(self.try_take()).await {
                Ok(true) => {
                    self.leadership.extend(asked);
                    tracing::info!(identity = %self.identity, "leading");
                    return true;
                }
                Ok(false) => tracing::debug!("another replica leads"),
                Err(error) => tracing::warn!(%error, "lease not asked for"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(RETRY_PERIOD) => {}
            }
        }
    }

    /// Renews until the lease is lost or `shutdown` comes.
    pub(crate) async fn hold(&self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY_PERIOD) => {}
            }
            let asked = Instant::now();
            match self.within_period(self.try_take()).await {
                Ok(true) => self.leadership.extend(asked),
                Ok(false) => {
                    self.leadership.end();
                    tracing::warn!("another replica took the lease");
                    return;
                }
                Err(error) if self.leadership.is_held() => {
                    tracing::warn!(%error, "lease not renewed");
                }
                Err(error) => {
                    self.leadership.end();
                    tracing::error!(%error, "lease lost");
                    return;
                }
            }
        }
    }

    /// Lets another replica lead at once.
    pub(crate) async fn release(&self) {
        if !self.leadership.is_held() {
            return;
        }
        self.leadership.end();
        let released = async {
            let api = self.api();
            let Some(mut lease) = api.get_opt(NAME).await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = None;
                spec.lease_duration_seconds = Some(1);
                api.replace(NAME, &PostParams::default(), &lease).await?;
            }
            Ok::<_, LeaseError>(())
        };
        if let Err(error) = self.within_period(released).await {
            tracing::warn!(%error, "lease not released");
        }
    }

    async fn within_period<T>(
        &self,
        work: impl Future<Output = Result<T, LeaseError>>,
    ) -> Result<T, LeaseError> {
        tokio::time::timeout(RETRY_PERIOD, work)
            .await
            .map_err(|_| LeaseError::Slow)?
    }

    async fn try_take(&self) -> Result<bool, LeaseError> {
        let api = self.api();
        let now = Timestamp::now();
        let Some(mut lease) = api.get_opt(NAME).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(self.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(taken(&LeaseSpec::default(), &self.identity, now)),
            };
            return lost_or(api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        if !can_take(&spec, &self.identity, now) {
            return Ok(false);
        }
        lease.spec = Some(taken(&spec, &self.identity, now));
        lost_or(api.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// A conflict means that another replica was faster.
fn lost_or(result: Result<Lease, kube::Error>) -> Result<bool, LeaseError> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn can_take(spec: &LeaseSpec, identity: &str, now: Timestamp) -> bool {
    let Some(holder) = spec
        .holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
    else {
        return true;
    };
    if holder == identity {
        return true;
    }
    let seconds = spec
        .lease_duration_seconds
        .map_or(DURATION.as_secs().cast_signed(), i64::from);
    spec.renew_time
        .as_ref()
        .is_none_or(|renewed| renewed.0.as_second() + seconds < now.as_second())
}

fn taken(previous: &LeaseSpec, identity: &str, now: Timestamp) -> LeaseSpec {
    let is_ours = previous.holder_identity.as_deref() == Some(identity);
    let transitions = previous.lease_transitions.unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if is_ours {
            previous.acquire_time.clone()
        } else {
            Some(MicroTime(now))
        },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if is_ours || previous.holder_identity.is_none() {
            transitions
        } else {
            transitions + 1
        }),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::{
        api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime,
    };

    use super::{can_take, taken};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[track_caller]
    fn check(holder: Option<&str>, renewed: i64, now: i64, expected: bool) {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(at(renewed))),
            ..LeaseSpec::default()
        };
        assert_eq!(
            can_take(&spec, "me", at(now)),
            expected,
            "{holder:?} {renewed} {now}"
        );
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_ours_or_expired() {
        check(None, 100, 101, true);
        check(Some(""), 100, 101, true);
        check(Some("me"), 100, 101, true);
        check(Some("other"), 100, 115, false);
        check(Some("other"), 100, 116, true);
    }

    #[test]
    fn a_change_of_holder_is_counted() {
        let first = taken(&LeaseSpec::default(), "a", at(1));
        let renewed = taken(&first, "a", at(2));
        let second = taken(&renewed, "b", at(20));
        assert_eq!(
            (
                first.lease_transitions,
                renewed.lease_transitions,
                second.lease_transitions
            ),
            (Some(0), Some(0), Some(1))
        );
        assert_eq!(renewed.acquire_time, first.acquire_time);
    }
}
