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
    let ready = crds::condition::find(after, ConditionKind::Ready)?;
    let previous = crds::condition::find(before, ConditionKind::Ready);
    if previous
        .is_some_and(|previous| previous.status == ready.status && previous.reason == ready.reason)
    {
        return None;
    }
    // What comes up is not yet ready, and that is normal; what stalls, or was ready, is not.
    let was_ready = crds::condition::is_ready(before);
    let is_stalled = crds::condition::find(after, ConditionKind::Stalled).is_some();
    let is_bad = ready.status == ConditionStatus::False && (was_ready || is_stalled);
    Some(Event {
        type_: if is_bad {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: ready.reason.clone(),
        note: Some(ready.message.chars().take(NOTE_LENGTH_MAX).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
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

    #[track_caller]
    fn check(before: &[Condition], after: Verdict, expected: Option<EventType>) {
        let event = transition(before, &conditions(after));
        assert_eq!(event.map(|event| event.type_), expected);
    }

    #[test]
    fn transitions_are_announced_and_warn_of_what_fell_or_stalls() {
        let good = || Verdict::holds(Reason::Accepted, "");
        let waits = || Verdict::waits(Reason::Pending, "");
        let ready = conditions(good());
        check(&ready, good(), None);
        check(&[], good(), Some(EventType::Normal));
        check(&[], waits(), Some(EventType::Normal));
        check(&ready, waits(), Some(EventType::Warning));
        check(
            &[],
            Verdict::stuck(Reason::Invalid, "spec.x: no"),
            Some(EventType::Warning),
        );
    }
}
