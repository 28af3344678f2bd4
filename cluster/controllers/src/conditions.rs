//! Condition lists: one entry a type, transition time moved only when the status changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A condition of any kind, as far as all kinds agree.
pub(crate) trait Condition: Clone {
    /// The condition's type.
    fn kind(&self) -> &str;
    /// `True`, `False` or `Unknown`.
    fn status(&self) -> &str;
    /// One word for programs.
    fn reason(&self) -> &str;
    /// A sentence for people.
    fn message(&self) -> &str;
    /// When the status last changed.
    fn transition_time(&self) -> Option<Time>;
    /// Sets when the status last changed.
    fn set_transition_time(&mut self, time: Option<Time>);
}

/// The condition of this type.
pub(crate) fn find<'a, C: Condition>(conditions: &'a [C], kind: &str) -> Option<&'a C> {
    conditions.iter().find(|condition| condition.kind() == kind)
}

/// Whether the condition of this type is `True`.
pub(crate) fn is_true<C: Condition>(conditions: &[C], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status() == "True")
}

/// Puts a condition into the list; nothing changes if it says what is there already.
pub(crate) fn set<C: Condition>(conditions: &mut Vec<C>, mut condition: C) {
    let Some(position) = conditions
        .iter()
        .position(|old| old.kind() == condition.kind())
    else {
        conditions.push(condition);
        return;
    };
    let old = &mut conditions[position];
    let is_same_status = old.status() == condition.status();
    if is_same_status && old.reason() == condition.reason() && old.message() == condition.message()
    {
        return;
    }
    if is_same_status {
        condition.set_transition_time(old.transition_time());
    }
    *old = condition;
}

/// Takes the condition of this type out of the list.
pub(crate) fn remove<C: Condition>(conditions: &mut Vec<C>, kind: &str) {
    conditions.retain(|condition| condition.kind() != kind);
}

macro_rules! condition {
    ($type:ty, optional) => {
        impl Condition for $type {
            fn kind(&self) -> &str {
                self.type_.as_deref().unwrap_or_default()
            }
            fn status(&self) -> &str {
                self.status.as_deref().unwrap_or_default()
            }
            condition!(@rest);
        }
    };
    ($type:ty, required) => {
        impl Condition for $type {
            fn kind(&self) -> &str {
                &self.type_
            }
            fn status(&self) -> &str {
                &self.status
            }
            condition!(@rest);
        }
    };
    (@rest) => {
        fn reason(&self) -> &str {
            self.reason.as_deref().unwrap_or_default()
        }
        fn message(&self) -> &str {
            self.message.as_deref().unwrap_or_default()
        }
        fn transition_time(&self) -> Option<Time> {
            self.last_transition_time.clone()
        }
        fn set_transition_time(&mut self, time: Option<Time>) {
            self.last_transition_time = time;
        }
    };
}

condition!(k8s_openapi::api::apps::v1::DeploymentCondition, optional);
condition!(k8s_openapi::api::apps::v1::ReplicaSetCondition, optional);
condition!(k8s_openapi::api::batch::v1::JobCondition, required);
condition!(k8s_openapi::api::core::v1::NamespaceCondition, required);

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::NamespaceCondition, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp,
    };

    use super::set;

    fn condition(status: &str, reason: &str, second: i64) -> NamespaceCondition {
        NamespaceCondition {
            type_: "X".to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: None,
            last_transition_time: Some(Time(Timestamp::from_second(second).unwrap())),
        }
    }

    #[track_caller]
    fn check(new: NamespaceCondition, expected: NamespaceCondition) {
        let mut conditions = vec![condition("True", "A", 1)];
        set(&mut conditions, new);
        assert_eq!(conditions, [expected]);
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        check(condition("True", "A", 2), condition("True", "A", 1));
        check(condition("True", "B", 2), condition("True", "B", 1));
        check(condition("False", "A", 2), condition("False", "A", 2));
    }
}
