//! How many replicas each ReplicaSet may have in the next step of a rolling update; pure.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{plan::Action, revision::Sets};

/// The default surge and unavailability, percent of the replicas.
const DEFAULT_PERCENT: &str = "25%";

/// How far a rollout may stray from the wanted number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Replicas that are wanted.
    pub(crate) wanted: i32,
    /// Replicas above `wanted`.
    pub(crate) surge: i32,
    /// Replicas below `wanted`.
    pub(crate) unavailable: i32,
}

impl Bounds {
    /// The bounds of a Deployment.
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let wanted = deployment.spec.replicas.unwrap_or(1);
        let strategy = deployment.spec.strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self {
                wanted,
                surge: 0,
                unavailable: 0,
            };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = resolve(
            rolling.and_then(|rolling| rolling.max_surge.as_ref()),
            wanted,
            Rounding::Up,
        );
        let unavailable = resolve(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            wanted,
            Rounding::Down,
        );
        // Both zero could never move; the defaults round to that for a single replica without surge.
        let unavailable = if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable.min(wanted)
        };
        Self {
            wanted,
            surge,
            unavailable,
        }
    }

    /// The fewest available replicas that a step may leave.
    pub(crate) fn available_min(self) -> i32 {
        (self.wanted - self.unavailable).max(0)
    }
}

#[derive(Debug, Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

fn resolve(value: Option<&IntOrString>, total: i32, rounding: Rounding) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        Some(IntOrString::String(text)) => text.as_str(),
        None => DEFAULT_PERCENT,
    };
    let percent: i32 = percent.trim_end_matches('%').parse().unwrap_or(0);
    let scaled = percent.saturating_mul(total);
    match rounding {
        Rounding::Up => scaled.saturating_add(99) / 100,
        Rounding::Down => scaled / 100,
    }
}

/// The replicas that a set asks for.
pub(crate) fn asked(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The replicas of a set that are available.
pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// The replicas that a new set starts with or grows to.
pub(crate) fn new_replicas(bounds: Bounds, new: i32, all: i32) -> i32 {
    if bounds.wanted <= new {
        return bounds.wanted;
    }
    let room = (bounds.wanted + bounds.surge - all).max(0);
    new + room.min(bounds.wanted - new)
}

/// The next step: grow the new set, or else shrink the old ones.
pub(crate) fn step(bounds: Bounds, new: &Arc<ReplicaSet>, sets: &Sets) -> Vec<Action> {
    let all: i32 = sets.all().map(|set| asked(set)).sum();
    let grown = new_replicas(bounds, asked(new), all);
    if grown != asked(new) {
        return vec![Action::Scale {
            set: Arc::clone(new),
            replicas: grown,
        }];
    }
    shrink(bounds, new, &sets.old, all)
}

fn shrink(bounds: Bounds, new: &ReplicaSet, old: &[Arc<ReplicaSet>], all: i32) -> Vec<Action> {
    let new_unavailable = (asked(new) - available(new)).max(0);
    let mut budget = all - bounds.available_min() - new_unavailable;
    let mut replicas: Vec<i32> = old.iter().map(|set| asked(set)).collect();
    // Replicas that do not serve go first: losing them costs nothing.
    for (set, replicas) in old.iter().zip(&mut replicas) {
        let cut = (*replicas - available(set)).clamp(0, budget.max(0));
        *replicas -= cut;
        budget -= cut;
    }
    let serving: i32 = old.iter().map(|set| available(set)).sum::<i32>() + available(new);
    let mut spare = (serving - bounds.available_min()).min(budget).max(0);
    for (set, replicas) in old.iter().zip(&mut replicas) {
        let cut = (*replicas).min(available(set)).min(spare);
        *replicas -= cut;
        spare -= cut;
    }
    let changed = old
        .iter()
        .zip(replicas)
        .filter(|(set, replicas)| asked(set) != *replicas);
    changed
        .map(|(set, replicas)| Action::Scale {
            set: Arc::clone(set),
            replicas,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::{
        api::apps::v1::{
            Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetSpec,
            ReplicaSetStatus, RollingUpdateDeployment,
        },
        apimachinery::pkg::util::intstr::IntOrString,
    };

    use super::{Bounds, step};
    use crate::deployment::{plan::Action, revision::Sets};

    #[track_caller]
    fn check_bounds(
        replicas: i32,
        surge: Option<&str>,
        unavailable: Option<&str>,
        expected: (i32, i32),
    ) {
        let value = |text: &str| {
            text.parse()
                .map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int)
        };
        let deployment = Deployment {
            spec: DeploymentSpec {
                replicas: Some(replicas),
                strategy: Some(DeploymentStrategy {
                    type_: None,
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: surge.map(value),
                        max_unavailable: unavailable.map(value),
                    }),
                }),
                ..DeploymentSpec::default()
            },
            ..Deployment::default()
        };
        let bounds = Bounds::of(&deployment);
        assert_eq!((bounds.surge, bounds.unavailable), expected);
    }

    #[test]
    fn surge_rounds_up_and_unavailability_rounds_down() {
        check_bounds(1, None, None, (1, 0));
        check_bounds(10, None, None, (3, 2));
        check_bounds(4, Some("50%"), Some("50%"), (2, 2));
        check_bounds(3, Some("0"), Some("0"), (0, 1));
        check_bounds(3, Some("1"), Some("5"), (1, 3));
    }

    fn set(name: &str, asked: i32, available: i32) -> Arc<ReplicaSet> {
        let mut set = ReplicaSet {
            spec: ReplicaSetSpec {
                replicas: Some(asked),
                ..ReplicaSetSpec::default()
            },
            status: Some(ReplicaSetStatus {
                available_replicas: Some(available),
                ..ReplicaSetStatus::default()
            }),
            ..ReplicaSet::default()
        };
        set.metadata.name = Some(name.to_owned());
        Arc::new(set)
    }

    #[track_caller]
    fn check(new: (i32, i32), old: &[(i32, i32)], expected: &[(&str, i32)]) {
        let bounds = Bounds {
            wanted: 4,
            surge: 1,
            unavailable: 1,
        };
        let new = set("new", new.0, new.1);
        let named = |(index, old): (usize, &(i32, i32))| set(&format!("old-{index}"), old.0, old.1);
        let sets = Sets {
            new: Some(Arc::clone(&new)),
            old: old.iter().enumerate().map(named).collect(),
        };
        let actions = step(bounds, &new, &sets);
        let actions: Vec<(String, i32)> = actions
            .into_iter()
            .filter_map(|action| match action {
                Action::Scale { set, replicas } => {
                    Some((set.metadata.name.clone().unwrap_or_default(), replicas))
                }
                _ => None,
            })
            .collect();
        let expected: Vec<(String, i32)> = expected
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        assert_eq!(actions, expected);
    }

    #[test]
    fn a_rollout_grows_into_the_surge_and_shrinks_into_the_unavailability() {
        check((0, 0), &[(4, 4)], &[("new", 1)]);
        // One may be missing: 5 asked, 4 serve, 3 are enough.
        check((1, 0), &[(4, 4)], &[("old-0", 3)]);
        check((1, 0), &[(3, 3)], &[("new", 2)]);
        check((2, 0), &[(3, 3)], &[]);
        check((2, 2), &[(3, 3)], &[("old-0", 1)]);
        // A broken old set goes first and does not count as serving.
        check((1, 0), &[(2, 0), (2, 2)], &[("old-0", 1)]);
        check((4, 4), &[(1, 1)], &[("old-0", 0)]);
        check((4, 4), &[(0, 0)], &[]);
        check((6, 6), &[], &[("new", 4)]);
    }
}
