//! What a Workspace's status says.

use crds::{
    Workspace, WorkspaceStatus,
    condition::{ConditionKind, Reason},
    names::{ISOLATION_CONDITION, REVISION_LABEL},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{
    dereference::World,
    pod::{WORKSPACE_CONTAINER, gate_url},
    validate::{InvalidWorkspace, ValidWorkspace},
};
use crate::{
    conditions::{Judgement, Verdict},
    executor::ExecuteError,
    model::refused,
    pods,
};

/// Characters of what a node says about isolation.
const ISOLATION_LENGTH_MAX: usize = 512;

/// What was seen and done.
pub(super) struct Observed<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) valid: Result<&'a ValidWorkspace, &'a InvalidWorkspace>,
    pub(super) refusal: Option<&'a ExecuteError>,
    pub(super) world: &'a World,
    pub(super) now: Timestamp,
}

pub(super) fn status(observed: &Observed<'_>) -> WorkspaceStatus {
    let workspace = observed.workspace;
    let generation = workspace.metadata.generation.unwrap_or(0);
    let previous = workspace.status.clone().unwrap_or_default();
    let pod = observed.world.pod.as_deref();
    let living = pod.filter(|pod| !pods::is_going(pod));
    WorkspaceStatus {
        observed_generation: generation,
        phase: Some(phase(workspace.spec.running, pod).to_owned()),
        pod_name: living.map(ResourceExt::name_any),
        url: living.and_then(|pod| pods::address(pod)).map(gate_url),
        isolation: living.and_then(isolation),
        template_hash: living.and_then(|pod| pod.labels().get(REVISION_LABEL).cloned()),
        conditions: judge(observed, living).conclude(
            &previous.conditions,
            generation,
            observed.now,
        ),
    }
}

fn phase(is_wanted: bool, pod: Option<&Pod>) -> &'static str {
    match pod {
        None if is_wanted => "Pending",
        None => "Stopped",
        Some(pod) if pods::is_going(pod) => "Stopping",
        Some(pod) if pods::has_ended(pod) => "Failed",
        Some(pod) if pods::is_ready(pod) => "Running",
        Some(_) => "Starting",
    }
}

fn judge(observed: &Observed<'_>, pod: Option<&Pod>) -> Judgement {
    let accepted = match observed.refusal {
        None => Verdict::holds(Reason::Accepted, ""),
        Some(refusal) => refused(refusal),
    };
    let resolved = match observed.valid {
        Ok(_) => Verdict::holds(Reason::ResolvedRefs, ""),
        Err(invalid) => Verdict::waits(invalid.reason(), invalid.to_string()),
    };
    let judgement = Judgement::default()
        .gate(ConditionKind::Accepted, accepted)
        .gate(ConditionKind::ResolvedRefs, resolved);
    let Ok(valid) = observed.valid else {
        return judgement;
    };
    if !observed.workspace.spec.running {
        return stopped(judgement, observed.world.pod.as_deref());
    }
    let judgement = judgement
        .gate(ConditionKind::StorageReady, storage(observed.world))
        .gate(ConditionKind::Available, available(pod))
        .note(ConditionKind::NetworkEnforced, network(pod))
        .note(ConditionKind::Isolated, isolated(pod));
    let is_current =
        pod.is_none_or(|pod| pod.labels().get(REVISION_LABEL) == Some(&valid.template_hash));
    let message = if is_current {
        "programs can run"
    } else {
        "programs can run; the template has changed, stop and start to use it"
    };
    judgement.when_ready(Reason::Ready, message)
}

fn stopped(judgement: Judgement, pod: Option<&Pod>) -> Judgement {
    let message = "stopped, as wanted; the home directory is kept";
    let judgement = judgement
        .gate(
            ConditionKind::Available,
            Verdict::holds(Reason::Stopped, message),
        )
        .when_ready(Reason::Stopped, message);
    if pod.is_some() {
        judgement.still("the Pod stops")
    } else {
        judgement
    }
}

fn storage(world: &World) -> Verdict {
    let phase = world
        .claim
        .as_deref()
        .and_then(|claim| claim.status.as_ref()?.phase.as_deref());
    match phase {
        Some("Bound") => Verdict::holds(Reason::Bound, ""),
        // Some classes bind a volume only when a Pod wants it; the Pod's own trouble says more then.
        Some(_) | None => Verdict::waits(
            Reason::Pending,
            "the volume of the home directory is not bound yet",
        ),
    }
}

fn available(pod: Option<&Pod>) -> Verdict {
    let Some(pod) = pod else {
        return Verdict::waits(Reason::Pending, "the Pod is not there yet");
    };
    if pods::is_ready(pod) {
        return Verdict::holds(Reason::MinimumReplicasAvailable, "");
    }
    match pods::trouble(pod) {
        Some(trouble) => Verdict::waits(Reason::MinimumReplicasUnavailable, trouble),
        None => Verdict::waits(Reason::Pending, "the Pod starts"),
    }
}

/// What the node says about the container in which programs run.
///
/// Its condition has a part for each container: `workspace: isolated…; gate: not isolated…`.
fn isolation(pod: &Pod) -> Option<String> {
    let message = pods::condition(pod, ISOLATION_CONDITION)?
        .message
        .as_deref()?;
    let start = message.find(&format!("{WORKSPACE_CONTAINER}: "))? + WORKSPACE_CONTAINER.len() + 2;
    let rest = message.get(start..)?;
    let end = ["; gate: ", "; install: "]
        .iter()
        .filter_map(|next| rest.find(next))
        .min()
        .unwrap_or(rest.len());
    Some(
        rest.get(..end)?
            .chars()
            .take(ISOLATION_LENGTH_MAX)
            .collect(),
    )
}

fn isolated(pod: Option<&Pod>) -> Verdict {
    match pod.and_then(isolation) {
        Some(words) if words.starts_with("isolated") => Verdict::holds(Reason::Enforced, words),
        Some(words) => Verdict::waits(Reason::NotEnforced, words),
        None => Verdict::unknown(
            Reason::Unverified,
            "the node does not report what it enforces",
        ),
    }
}

/// The embedded node gives a sandbox a network of its own, without a way out; elsewhere the network plugin decides.
fn network(pod: Option<&Pod>) -> Verdict {
    match pod.and_then(isolation) {
        Some(words) if words.starts_with("isolated") => Verdict::holds(
            Reason::Enforced,
            "the sandbox has no network but its gate's proxy",
        ),
        Some(_) => Verdict::waits(Reason::NotEnforced, "programs share the host's network"),
        None => Verdict::unknown(
            Reason::Unverified,
            "the NetworkPolicy is applied; whether the cluster enforces it is not known",
        ),
    }
}
