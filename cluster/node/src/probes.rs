//! Probes of a running container: startup, then readiness and liveness side by side.

pub(crate) mod check;
pub(crate) mod threshold;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use check::{Target, check};
use threshold::{Threshold, Verdict};

/// What probes have found out; sent only when it changes something or must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The container has started.
    Started,
    Ready(bool),
    /// A single failure, for an event.
    Failure {
        probe: &'static str,
        message: String,
    },
    /// The container must be restarted.
    Dead {
        reason: String,
        grace: Option<Duration>,
    },
}

/// Probes a container until its future is dropped.
pub(crate) async fn run(container: Container, target: Target, findings: mpsc::Sender<Finding>) {
    if let Some(probe) = &container.startup_probe
        && !startup(&container.name, probe, &target, &findings).await
    {
        return;
    }
    send(&findings, Finding::Started).await;
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => readiness(probe, &target, &findings).await,
            None => send(&findings, Finding::Ready(true)).await,
        }
    };
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            liveness(&container.name, probe, &target, &findings).await;
        }
    };
    tokio::join!(readiness, liveness);
}

async fn startup(
    name: &str,
    probe: &Probe,
    target: &Target,
    findings: &mpsc::Sender<Finding>,
) -> bool {
    let mut rounds = Rounds::of(probe);
    loop {
        match rounds.next(probe, target, "Startup", findings).await {
            Some(Verdict::Passes) => return true,
            Some(Verdict::Fails) => {
                die(name, "startup", probe, findings).await;
                return false;
            }
            None => {}
        }
    }
}

async fn readiness(probe: &Probe, target: &Target, findings: &mpsc::Sender<Finding>) {
    let mut rounds = Rounds::of(probe);
    let mut was_ready = None;
    loop {
        let Some(verdict) = rounds.next(probe, target, "Readiness", findings).await else {
            continue;
        };
        let is_ready = verdict == Verdict::Passes;
        if was_ready != Some(is_ready) {
            was_ready = Some(is_ready);
            send(findings, Finding::Ready(is_ready)).await;
        }
    }
}

async fn liveness(name: &str, probe: &Probe, target: &Target, findings: &mpsc::Sender<Finding>) {
    let mut rounds = Rounds::of(probe);
    loop {
        if rounds.next(probe, target, "Liveness", findings).await == Some(Verdict::Fails) {
            return die(name, "liveness", probe, findings).await;
        }
    }
}

async fn die(name: &str, kind: &str, probe: &Probe, findings: &mpsc::Sender<Finding>) {
    let grace = probe
        .termination_grace_period_seconds
        .map(crate::pod::wanted::seconds);
    let reason = format!("Container {name} failed {kind} probe, will be restarted");
    send(findings, Finding::Dead { reason, grace }).await;
}

async fn send(findings: &mpsc::Sender<Finding>, finding: Finding) {
    // Without a listener the container is gone, and this future with it.
    drop(findings.send(finding).await);
}

/// The rhythm of one probe.
struct Rounds {
    threshold: Threshold,
    period: Duration,
    due: Instant,
}

impl Rounds {
    fn of(probe: &Probe) -> Self {
        let delay = duration(probe.initial_delay_seconds, 0);
        Self {
            threshold: Threshold::new(probe.success_threshold, probe.failure_threshold),
            period: duration(probe.period_seconds, 10).max(Duration::from_secs(1)),
            due: Instant::now() + delay,
        }
    }

    async fn next(
        &mut self,
        probe: &Probe,
        target: &Target,
        name: &'static str,
        findings: &mpsc::Sender<Finding>,
    ) -> Option<Verdict> {
        sleep_until(self.due).await;
        let began = Instant::now();
        let limit = duration(probe.timeout_seconds, 1).max(Duration::from_millis(1));
        let result = tokio::select! {
            result = check(probe, target) => result,
            () = sleep(limit) => Err(format!("no answer within {limit:?}")),
        };
        self.due = began + self.period;
        if let Err(message) = &result {
            let message = format!("{name} probe failed: {message}");
            send(
                findings,
                Finding::Failure {
                    probe: name,
                    message,
                },
            )
            .await;
        }
        self.threshold.count(result.is_ok())
    }
}

fn duration(seconds: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(default),
    )
}
