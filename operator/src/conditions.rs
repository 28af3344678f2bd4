//! From verdicts to conditions: the AND in order, kstatus, and transition times that change only with the status.

use crds::condition::{Condition, ConditionKind, ConditionStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Characters of a condition's message.
const MESSAGE_LENGTH_MAX: usize = 2048;

/// Whether a condition was True for this generation when the status was written.
pub(crate) fn holds(conditions: &[Condition], kind: ConditionKind, generation: i64) -> bool {
    crds::condition::find(conditions, kind).is_some_and(|condition| {
        condition.status == ConditionStatus::True
            && condition.observed_generation == Some(generation)
    })
}

/// What one condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) status: ConditionStatus,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    outlook: Outlook,
}

/// What happens next when a condition does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// It will hold by itself, or as soon as something else exists.
    Waiting,
    /// Somebody must change something.
    Stuck,
}

impl Verdict {
    pub(crate) fn holds(reason: Reason, message: impl Into<String>) -> Self {
        Self::with(ConditionStatus::True, reason, message, Outlook::Waiting)
    }

    /// It does not hold yet.
    pub(crate) fn waits(reason: Reason, message: impl Into<String>) -> Self {
        Self::with(ConditionStatus::False, reason, message, Outlook::Waiting)
    }

    /// It does not hold until somebody acts.
    pub(crate) fn stuck(reason: Reason, message: impl Into<String>) -> Self {
        Self::with(ConditionStatus::False, reason, message, Outlook::Stuck)
    }

    pub(crate) fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self::with(ConditionStatus::Unknown, reason, message, Outlook::Waiting)
    }

    pub(crate) fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }

    fn with(
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
        outlook: Outlook,
    ) -> Self {
        let message = message.into();
        Self {
            status,
            reason,
            message,
            outlook,
        }
    }
}

/// The conditions of one object, judged in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judgement {
    gates: Vec<(ConditionKind, Verdict)>,
    notes: Vec<(ConditionKind, Verdict)>,
    ready: Option<(Reason, String)>,
    under_way: Option<String>,
}

impl Judgement {
    /// A condition that Ready needs; they are judged in the order in which they are given.
    pub(crate) fn gate(mut self, kind: ConditionKind, verdict: Verdict) -> Self {
        self.gates.push((kind, verdict));
        self
    }

    /// A condition that is shown and that Ready does not need.
    pub(crate) fn note(mut self, kind: ConditionKind, verdict: Verdict) -> Self {
        self.notes.push((kind, verdict));
        self
    }

    /// What Ready says when all gates hold.
    pub(crate) fn when_ready(mut self, reason: Reason, message: impl Into<String>) -> Self {
        self.ready = Some((reason, message.into()));
        self
    }

    /// Work goes on although all gates hold.
    pub(crate) fn still(mut self, message: impl Into<String>) -> Self {
        self.under_way = Some(message.into());
        self
    }

    /// Writes the conditions down.
    pub(crate) fn conclude(
        self,
        previous: &[Condition],
        generation: i64,
        now: Timestamp,
    ) -> Vec<Condition> {
        let stamp = Stamp {
            previous,
            generation,
            now,
        };
        let mut conditions = Vec::new();
        let mut failed: Option<(ConditionKind, Verdict)> = None;
        for (kind, verdict) in self.gates {
            match &failed {
                Some((earlier, _)) => {
                    let message = format!("waits for {}", earlier.as_str());
                    conditions
                        .push(stamp.condition(kind, &Verdict::unknown(Reason::Blocked, message)));
                }
                None => {
                    conditions.push(stamp.condition(kind, &verdict));
                    if !verdict.is_true() {
                        failed = Some((kind, verdict));
                    }
                }
            }
        }
        for (kind, verdict) in &self.notes {
            conditions.push(stamp.condition(*kind, verdict));
        }
        let (reason, message) = self.ready.unwrap_or((Reason::Ready, String::new()));
        let ready = failed.as_ref().map_or_else(
            || Verdict::holds(reason, message),
            |(_, verdict)| Verdict::waits(verdict.reason, verdict.message.clone()),
        );
        conditions.push(stamp.condition(ConditionKind::Ready, &ready));
        match failed {
            Some((_, verdict)) if verdict.outlook == Outlook::Stuck => {
                let stalled = Verdict::holds(verdict.reason, verdict.message);
                conditions.push(stamp.condition(ConditionKind::Stalled, &stalled));
            }
            Some((kind, verdict)) => {
                let message = format!("{}: {}", kind.as_str(), verdict.message);
                conditions.push(stamp.condition(
                    ConditionKind::Reconciling,
                    &Verdict::holds(Reason::Progressing, message),
                ));
            }
            None => {
                if let Some(message) = self.under_way {
                    let verdict = Verdict::holds(Reason::Progressing, message);
                    conditions.push(stamp.condition(ConditionKind::Reconciling, &verdict));
                }
            }
        }
        conditions
    }
}

struct Stamp<'a> {
    previous: &'a [Condition],
    generation: i64,
    now: Timestamp,
}

impl Stamp<'_> {
    fn condition(&self, kind: ConditionKind, verdict: &Verdict) -> Condition {
        let since = crds::condition::find(self.previous, kind)
            .filter(|previous| previous.status == verdict.status)
            .map_or_else(
                || Time(whole_seconds(self.now)),
                |previous| previous.last_transition_time.clone(),
            );
        Condition {
            kind: kind.as_str().to_owned(),
            status: verdict.status,
            reason: verdict.reason.as_str().to_owned(),
            message: verdict.message.chars().take(MESSAGE_LENGTH_MAX).collect(),
            last_transition_time: since,
            observed_generation: Some(self.generation),
        }
    }
}

/// Times in objects have whole seconds; more would differ from what comes back.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use crds::condition::{Condition, ConditionKind, Reason};
    use jiff::Timestamp;

    use super::{Judgement, Verdict};

    fn now(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn lines(conditions: &[Condition]) -> Vec<String> {
        conditions
            .iter()
            .map(|condition| {
                format!(
                    "{}={} {}",
                    condition.kind,
                    condition.status.as_str(),
                    condition.reason
                )
            })
            .collect()
    }

    #[track_caller]
    fn check(judgement: Judgement, expected: &[&str]) {
        assert_eq!(lines(&judgement.conclude(&[], 3, now(100))), expected);
    }

    #[test]
    fn ready_is_the_and_in_order() {
        let accepted = Verdict::holds(Reason::Accepted, "");
        let resolved = Verdict::holds(Reason::ResolvedRefs, "");
        check(
            Judgement::default()
                .gate(ConditionKind::Accepted, accepted.clone())
                .gate(ConditionKind::ResolvedRefs, resolved.clone()),
            &[
                "Accepted=True Accepted",
                "ResolvedRefs=True ResolvedRefs",
                "Ready=True Ready",
            ],
        );
        check(
            Judgement::default()
                .gate(
                    ConditionKind::Accepted,
                    Verdict::stuck(Reason::Invalid, "spec.x: no"),
                )
                .gate(ConditionKind::ResolvedRefs, resolved),
            &[
                "Accepted=False Invalid",
                "ResolvedRefs=Unknown Blocked",
                "Ready=False Invalid",
                "Stalled=True Invalid",
            ],
        );
        check(
            Judgement::default()
                .gate(ConditionKind::Accepted, accepted)
                .gate(
                    ConditionKind::ResolvedRefs,
                    Verdict::waits(Reason::RefNotFound, "no x"),
                ),
            &[
                "Accepted=True Accepted",
                "ResolvedRefs=False RefNotFound",
                "Ready=False RefNotFound",
                "Reconciling=True Progressing",
            ],
        );
    }

    #[test]
    fn a_note_does_not_hold_ready_back() {
        check(
            Judgement::default()
                .gate(
                    ConditionKind::Accepted,
                    Verdict::holds(Reason::Accepted, ""),
                )
                .note(
                    ConditionKind::NetworkEnforced,
                    Verdict::unknown(Reason::Unverified, ""),
                )
                .when_ready(Reason::Stopped, "as wanted"),
            &[
                "Accepted=True Accepted",
                "NetworkEnforced=Unknown Unknown",
                "Ready=True Stopped",
            ],
        );
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let judge = |verdict| Judgement::default().gate(ConditionKind::Accepted, verdict);
        let first = judge(Verdict::holds(Reason::Accepted, "")).conclude(&[], 1, now(100));
        let same =
            judge(Verdict::holds(Reason::Accepted, "other words")).conclude(&first, 2, now(200));
        assert_eq!(same[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(same[0].observed_generation, Some(2));
        let turned = judge(Verdict::stuck(Reason::Invalid, "")).conclude(&same, 2, now(300));
        assert_ne!(
            turned[0].last_transition_time,
            first[0].last_transition_time
        );
    }
}
