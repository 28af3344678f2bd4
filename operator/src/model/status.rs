//! What a Model's status says. Only Pods of the current revision count.

use std::{collections::BTreeMap, sync::Arc};

use crds::{
    Model, ModelStatus,
    condition::{self, ConditionKind, ConditionStatus, Reason},
    model::{EngineKind, Facts, Loading},
    names::REVISION_LABEL,
};
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::ResourceExt;
use protocol::load::{LoadFailure, LoadPhase, LoadReport};

use super::{
    build::selector,
    validate::{ENGINE_PORT, InvalidModel, ValidEngine, ValidModel},
};
use crate::{
    conditions::{Judgement, Verdict},
    executor::ExecuteError,
    pods,
};

/// Percent are written in steps, so that a download does not write the status all the time.
const PERCENT_STEP: u64 = 5;
/// Engines whose progress is shown.
const LOADING_MAX: usize = 100;

/// What was seen and done.
pub(super) struct Observed<'a> {
    pub(super) model: &'a Model,
    pub(super) valid: Result<&'a ValidModel, &'a InvalidModel>,
    pub(super) refusal: Option<&'a ExecuteError>,
    pub(super) revision: Option<&'a str>,
    pub(super) deployment: Option<&'a Deployment>,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) reports: &'a BTreeMap<String, LoadReport>,
    /// When requests came last, if anybody asks.
    pub(super) last_wanted: Option<&'a str>,
    pub(super) now: Timestamp,
}

impl Observed<'_> {
    /// Engines that are wanted now.
    pub(super) fn wanted(&self) -> i32 {
        match self.valid.map(|valid| &valid.engine) {
            Ok(ValidEngine::Native(engine)) => engine.replicas,
            Ok(ValidEngine::External(_)) | Err(_) => self.model.spec.replicas,
        }
    }
}

/// The engines by what they do.
struct Engines<'a> {
    all: Vec<&'a Pod>,
    current: Vec<&'a Pod>,
    ready: usize,
}

/// The status of a Model.
pub(super) fn status(observed: &Observed<'_>) -> ModelStatus {
    let model = observed.model;
    let generation = model.metadata.generation.unwrap_or(0);
    let previous = model.status.clone().unwrap_or_default();
    let engines = engines(observed);
    let judgement = judge(observed, &engines, &previous);
    let name = model.name_any();
    let is_native = model.spec.engine.kind == EngineKind::Native;
    let wanted = observed.wanted();
    ModelStatus {
        observed_generation: generation,
        served_name: Some(
            model
                .spec
                .served_name
                .clone()
                .unwrap_or_else(|| name.clone()),
        ),
        replicas: count(engines.all.len()),
        ready_replicas: count(engines.ready),
        updated_replicas: count(engines.current.len()),
        last_wanted: observed
            .last_wanted
            .map(str::to_owned)
            .or(previous.last_wanted),
        ready: is_native.then(|| format!("{}/{wanted}", engines.ready)),
        selector: is_native.then(|| {
            selector(&name)
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect()
        }),
        url: url(observed, &name),
        loading: loading(observed, &engines),
        facts: facts(observed.reports).or_else(|| {
            previous
                .facts
                .filter(|_| previous.observed_generation == generation)
        }),
        conditions: judgement.conclude(&previous.conditions, generation, observed.now),
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn engines<'a>(observed: &Observed<'a>) -> Engines<'a> {
    let all: Vec<&Pod> = observed
        .pods
        .iter()
        .map(|pod| &**pod)
        .filter(|pod| !pods::is_going(pod) && !pods::has_ended(pod))
        .collect();
    let is_current = |pod: &&Pod| {
        observed.revision.is_some()
            && pod.labels().get(REVISION_LABEL).map(String::as_str) == observed.revision
    };
    let current: Vec<&Pod> = all.iter().copied().filter(is_current).collect();
    let ready = current.iter().filter(|pod| pods::is_ready(pod)).count();
    Engines {
        all,
        current,
        ready,
    }
}

fn url(observed: &Observed<'_>, name: &str) -> Option<String> {
    match &observed.valid.ok()?.engine {
        ValidEngine::Native(_) => {
            let namespace = observed.model.namespace().unwrap_or_default();
            Some(format!("http://{name}.{namespace}.svc:{ENGINE_PORT}/v1"))
        }
        ValidEngine::External(engine) => Some(engine.base_url.clone()),
    }
}

fn judge(observed: &Observed<'_>, engines: &Engines<'_>, previous: &ModelStatus) -> Judgement {
    let judgement = Judgement::default().gate(ConditionKind::Accepted, accepted(observed));
    let judgement = judgement.gate(ConditionKind::ResolvedRefs, resolved(observed));
    let Ok(valid) = observed.valid else {
        return judgement;
    };
    let ValidEngine::Native(engine) = &valid.engine else {
        return judgement
            .gate(
                ConditionKind::Available,
                Verdict::holds(
                    Reason::MinimumReplicasAvailable,
                    "the provider answers for itself",
                ),
            )
            .when_ready(Reason::Ready, "forwarded to the provider");
    };
    let wanted = usize::try_from(engine.replicas).unwrap_or(0);
    if wanted == 0 {
        return scaled_to_zero(judgement, engines, model_sleeps(observed));
    }
    let judgement = judgement
        .gate(
            ConditionKind::ArtifactReady,
            artifact(observed, engines, previous),
        )
        .gate(
            ConditionKind::Available,
            available(observed, engines, wanted),
        );
    let message = if engines.ready == wanted {
        format!("serving with {wanted} of {wanted} replicas")
    } else {
        format!("serving with {} of {wanted} replicas", engines.ready)
    };
    let judgement = judgement.when_ready(Reason::Ready, message);
    if engines.ready != wanted || engines.all.len() != wanted {
        let message = format!(
            "{} of {wanted} replicas of the current revision are ready, {} exist",
            engines.ready,
            engines.all.len()
        );
        return judgement.still(message);
    }
    judgement
}

/// Whether no replica is wanted because nobody asks.
const fn model_sleeps(observed: &Observed<'_>) -> bool {
    0 < observed.model.spec.replicas
}

fn scaled_to_zero(judgement: Judgement, engines: &Engines<'_>, sleeps: bool) -> Judgement {
    let message = if sleeps {
        "no request came for spec.scaling.idle; the next one starts it"
    } else {
        "no replica is wanted; set spec.replicas to serve"
    };
    let judgement = judgement
        .gate(
            ConditionKind::Available,
            Verdict::holds(Reason::ScaledToZero, message),
        )
        .when_ready(Reason::ScaledToZero, message);
    if engines.all.is_empty() {
        judgement
    } else {
        judgement.still(format!("{} replicas stop", engines.all.len()))
    }
}

fn accepted(observed: &Observed<'_>) -> Verdict {
    match (observed.valid, observed.refusal) {
        (Ok(_) | Err(InvalidModel::Credential(_)), Some(refusal)) => refused(refusal),
        (Ok(_) | Err(InvalidModel::Credential(_)), None) => Verdict::holds(Reason::Accepted, ""),
        (Err(invalid), _) => Verdict::stuck(Reason::Invalid, invalid.to_string()),
    }
}

/// What a refused write says.
pub(crate) fn refused(refusal: &ExecuteError) -> Verdict {
    match refusal {
        ExecuteError::NotOurs { kind, name } => {
            let message = format!(
                "a {kind} named `{name}` exists and does not belong to this object; delete it or choose another name"
            );
            Verdict::stuck(Reason::Conflict, message)
        }
        ExecuteError::NotLeader
        | ExecuteError::Refused { .. }
        | ExecuteError::Stale { .. }
        | ExecuteError::Api { .. } => Verdict::stuck(Reason::Invalid, refusal.to_string()),
    }
}

fn resolved(observed: &Observed<'_>) -> Verdict {
    match observed.valid {
        Err(InvalidModel::Credential(bad)) => Verdict::waits(bad.reason(), bad.to_string()),
        Ok(_) | Err(_) => Verdict::holds(Reason::ResolvedRefs, ""),
    }
}

/// Whether the weights are there: as soon as one engine has them, they are.
fn artifact(observed: &Observed<'_>, engines: &Engines<'_>, previous: &ModelStatus) -> Verdict {
    let cached = Verdict::holds(Reason::Cached, "the weights are in the cache");
    if 0 < engines.ready {
        return cached;
    }
    let mut verdicts: Vec<Verdict> = engines
        .current
        .iter()
        .filter_map(|pod| observed.reports.get(&pod.name_any()))
        .filter_map(report_verdict)
        .collect();
    // The best news first: what holds, then what is on its way, then what failed.
    verdicts.sort_by_key(|verdict| (!verdict.is_true(), verdict.reason != Reason::Downloading));
    if let Some(verdict) = verdicts.into_iter().next() {
        return verdict;
    }
    let known = condition::find(&previous.conditions, ConditionKind::ArtifactReady);
    let is_known = known.is_some_and(|known| {
        known.status == ConditionStatus::True
            && known.observed_generation == observed.model.metadata.generation
    });
    if is_known {
        return cached;
    }
    Verdict::unknown(
        Reason::Pending,
        trouble(engines).unwrap_or_else(|| "no engine has reported yet".to_owned()),
    )
}

fn report_verdict(report: &LoadReport) -> Option<Verdict> {
    match report.phase {
        LoadPhase::Starting => None,
        LoadPhase::Downloading | LoadPhase::Verifying => {
            Some(Verdict::waits(Reason::Downloading, progress(report)))
        }
        LoadPhase::Loading | LoadPhase::Ready => Some(Verdict::holds(
            Reason::Cached,
            "the weights are in the cache",
        )),
        LoadPhase::Failed => Some(failure(report)),
    }
}

fn progress(report: &LoadReport) -> String {
    let word = if report.phase == LoadPhase::Verifying {
        "checking the digest"
    } else {
        "fetching the weights"
    };
    percent(report).map_or_else(|| word.to_owned(), |percent| format!("{word}: {percent} %"))
}

/// The engine says what to do; our hint stands in where it says nothing.
fn failure(report: &LoadReport) -> Verdict {
    let said = |hint: &str| {
        if report.message.is_empty() {
            hint.to_owned()
        } else {
            report.message.clone()
        }
    };
    match report.reason {
        Some(LoadFailure::SourceNotFound) => Verdict::stuck(
            Reason::SourceNotFound,
            said(
                "the source does not exist; correct spec.source.uri or publish the file, it is tried again",
            ),
        ),
        Some(LoadFailure::SourceUnauthorized) => Verdict::stuck(
            Reason::SourceUnauthorized,
            said(
                "the source asks for credentials; name a Secret with them in spec.source.secretRef",
            ),
        ),
        Some(LoadFailure::SourceUnreachable) | None => Verdict::waits(
            Reason::SourceUnreachable,
            said(
                "the source cannot be reached; check the network and spec.source.uri, it is tried again",
            ),
        ),
        Some(LoadFailure::VerifyFailed) => Verdict::stuck(
            Reason::VerifyFailed,
            said(
                "the file is not the one that was asked for; correct spec.source.sha256 or do not trust it",
            ),
        ),
        Some(LoadFailure::InsufficientResources) => Verdict::stuck(
            Reason::InsufficientResources,
            said(
                "the weights do not fit; raise spec.cache.size or spec.resources, or choose smaller weights",
            ),
        ),
        Some(LoadFailure::Unsupported) => Verdict::stuck(
            Reason::Unsupported,
            said(
                "the weights are not served by this engine; choose a supported architecture and format",
            ),
        ),
    }
}

fn available(observed: &Observed<'_>, engines: &Engines<'_>, wanted: usize) -> Verdict {
    let counts = format!("{} of {wanted} replicas ready", engines.ready);
    if 0 < engines.ready {
        return Verdict::holds(Reason::MinimumReplicasAvailable, counts);
    }
    let trouble = trouble(engines);
    let message = trouble.map_or_else(|| counts.clone(), |trouble| format!("{counts}; {trouble}"));
    if observed.deployment.is_some_and(is_overdue) {
        let message =
            format!("{message}; no progress within the deadline, see the Pods' events and logs");
        return Verdict::stuck(Reason::ProgressDeadlineExceeded, message);
    }
    Verdict::waits(Reason::MinimumReplicasUnavailable, message)
}

/// What keeps the first engine in trouble from serving.
fn trouble(engines: &Engines<'_>) -> Option<String> {
    let mut troubles = engines
        .current
        .iter()
        .filter_map(|pod| Some((pod.name_any(), pods::trouble(pod)?)));
    troubles
        .next()
        .map(|(name, trouble)| format!("{name}: {trouble}"))
}

/// Whether the rollout made no progress within its deadline.
fn is_overdue(deployment: &Deployment) -> bool {
    let conditions = deployment
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| {
            condition.type_.as_deref() == Some("Progressing")
                && condition.status.as_deref() == Some("False")
        })
        .any(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"))
}

fn loading(observed: &Observed<'_>, engines: &Engines<'_>) -> Vec<Loading> {
    let waiting = engines.current.iter().filter(|pod| !pods::is_ready(pod));
    waiting
        .filter_map(|pod| {
            let name = pod.name_any();
            let report = observed
                .reports
                .get(&name)
                .filter(|report| report.phase != LoadPhase::Ready)?;
            Some(Loading {
                pod: name,
                phase: format!("{:?}", report.phase),
                percent: percent(report),
            })
        })
        .take(LOADING_MAX)
        .collect()
}

fn percent(report: &LoadReport) -> Option<i32> {
    let total = report.bytes_total.filter(|total| 0 < *total)?;
    let percent = report.bytes.min(total).saturating_mul(100) / total;
    i32::try_from(percent / PERCENT_STEP * PERCENT_STEP).ok()
}

fn facts(reports: &BTreeMap<String, LoadReport>) -> Option<Facts> {
    let facts = reports.values().find_map(|report| report.facts.as_ref())?;
    Some(Facts {
        architecture: facts.architecture.clone(),
        parameters: i64::try_from(facts.parameters).unwrap_or(i64::MAX),
        weight_bytes: i64::try_from(facts.weight_bytes).unwrap_or(i64::MAX),
        context_length: i64::from(facts.context_length),
        device: facts.device.clone(),
    })
}
