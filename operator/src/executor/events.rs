//! Events: what happened to an object, written when its Ready condition turns.

use std::fmt;

use crds::condition::{Condition, ConditionKind, ConditionStatus};
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// Characters of an event's note; the API server takes 1,024.
const NOTE_LENGTH_MAX: usize = 900;

/// Publishes events.
#[derive(Clone)]
pub(crate) struct Announcer {
    recorder: Recorder,
}

impl fmt::Debug for Announcer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Announcer").finish_non_exhaustive()
    }
}

impl Announcer {
    pub(crate) fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: "quarterdeck-operator".to_owned(),
            instance: Some(identity.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Publishes an event if Ready turned, or its reason changed, between the two lists of conditions.
    pub(crate) async fn announce<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        before: &[Condition],
        after: &[Condition],
    ) {
        let Some(event) = transition(before, after) else {
            return;
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            // An event is a courtesy; the status has it all.
            tracing::warn!(%error, "event not published");
        }
    }
}

fn transition(before: &[Condition], after: &[Condition]) -> Option<Event> {
    let after = crds::condition::find(after, ConditionKind::Ready)?;
    if let Some(before) = crds::condition::find(before, ConditionKind::Ready)
        && before.status == after.status
        && before.reason == after.reason
    {
        return None;
    }
    let type_ = match after.status {
        ConditionStatus::True | ConditionStatus::Unknown => EventType::Normal,
        ConditionStatus::False if is_on_its_way(&after.reason) => EventType::Normal,
        ConditionStatus::False => EventType::Warning,
    };
    Some(Event {
        type_,
        reason: after.reason.clone(),
        note: Some(after.message.chars().take(NOTE_LENGTH_MAX).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}

/// Reasons of objects that come up as they should.
fn is_on_its_way(reason: &str) -> bool {
    [
        "Pending",
        "Downloading",
        "Progressing",
        "PartiallyProgrammed",
    ]
    .contains(&reason)
}

#[cfg(test)]
mod tests {
    use crds::condition::{Condition, ConditionKind, Reason};
    use jiff::Timestamp;
    use kube::runtime::events::EventType;

    use super::transition;
    use crate::conditions::{Judgement, Verdict};

    fn conditions(verdict: Verdict) -> Vec<Condition> {
        Judgement::default()
            .gate(ConditionKind::Accepted, verdict)
            .conclude(&[], 1, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_transitions_are_announced() {
        let good = conditions(Verdict::holds(Reason::Accepted, ""));
        let bad = conditions(Verdict::stuck(Reason::Invalid, "spec.x: no"));
        assert!(transition(&good, &good).is_none());
        let event = transition(&good, &bad).expect("an event");
        assert_eq!(
            (event.type_, &*event.reason),
            (EventType::Warning, "Invalid")
        );
        assert_eq!(
            transition(&[], &good).expect("an event").type_,
            EventType::Normal
        );
    }
}
