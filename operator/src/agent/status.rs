//! What an Agent's status says.

use crds::{
    Agent, AgentStatus,
    condition::{self, ConditionKind, Reason},
};
use jiff::Timestamp;

use super::validate::{InvalidAgent, ValidAgent};
use crate::{
    conditions::{Judgement, Verdict},
    executor::ExecuteError,
    model::refused,
    snapshots::Programmed,
};

/// What was seen and done.
pub(super) struct Observed<'a> {
    pub(super) agent: &'a Agent,
    pub(super) valid: Result<&'a ValidAgent, &'a InvalidAgent>,
    pub(super) refusal: Option<&'a ExecuteError>,
    pub(super) programmed: &'a Programmed,
    pub(super) now: Timestamp,
}

pub(super) fn status(observed: &Observed<'_>) -> AgentStatus {
    let generation = observed.agent.metadata.generation.unwrap_or(0);
    let previous = observed.agent.status.clone().unwrap_or_default();
    let first = previous
        .snapshot_version
        .clone()
        .filter(|_| previous.observed_generation == generation);
    AgentStatus {
        observed_generation: generation,
        model: observed.valid.ok().map(|valid| valid.model.name.clone()),
        snapshot_version: first.or_else(|| observed.programmed.version.clone()),
        conditions: judge(observed).conclude(&previous.conditions, generation, observed.now),
    }
}

fn judge(observed: &Observed<'_>) -> Judgement {
    let accepted = match (observed.valid, observed.refusal) {
        (Err(invalid), _) => Verdict::stuck(Reason::Invalid, invalid.to_string()),
        (Ok(_), Some(refusal)) => refused(refusal),
        (Ok(_), None) => Verdict::holds(Reason::Accepted, ""),
    };
    let blocked = || Verdict::unknown(Reason::Blocked, "");
    let (resolved, available) = match observed.valid {
        Err(_) => (blocked(), blocked()),
        Ok(valid) => (resolved(valid), available(observed, valid)),
    };
    let ready = if observed.agent.spec.suspend {
        "runs go on, new ones are refused"
    } else {
        "the runtime takes runs"
    };
    Judgement::default()
        .gate(ConditionKind::Accepted, accepted)
        .gate(ConditionKind::ResolvedRefs, resolved)
        .gate(
            ConditionKind::Programmed,
            observed.programmed.verdict.clone(),
        )
        .gate(ConditionKind::Available, available)
        .when_ready(Reason::Ready, ready)
}

fn resolved(valid: &ValidAgent) -> Verdict {
    match valid.unresolved.first() {
        None => Verdict::holds(Reason::ResolvedRefs, ""),
        Some((reason, message)) => Verdict::waits(*reason, message.clone()),
    }
}

fn available(observed: &Observed<'_>, valid: &ValidAgent) -> Verdict {
    if let Some(trouble) = valid.unavailable.first() {
        return Verdict::waits(Reason::WorkspaceUnavailable, trouble.clone());
    }
    // A runtime that does not have the newest addresses would refuse the first run.
    let was_ready = observed
        .agent
        .status
        .as_ref()
        .is_some_and(|status| condition::is_ready(&status.conditions));
    if !was_ready && !observed.programmed.is_current {
        return Verdict::waits(
            Reason::Pending,
            "the runtime is about to learn the newest addresses",
        );
    }
    Verdict::holds(Reason::MinimumReplicasAvailable, "")
}
