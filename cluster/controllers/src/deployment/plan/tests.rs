//! Whole rollouts, played against the plan with every change applied at once.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetStatus},
        core::v1::{Container, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{ResourceExt, core::ObjectMeta};

use super::{Action, plan};
use crate::deployment::revision::{REVISION, Sets, TEMPLATE_HASH, revision_of};

struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    log: Vec<String>,
}

impl World {
    fn new(replicas: i32, strategy: &str) -> Self {
        let labels = Some([("app".to_owned(), "a".to_owned())].into());
        let deployment = Deployment {
            metadata: ObjectMeta {
                name: Some("web".to_owned()),
                uid: Some("d".to_owned()),
                ..ObjectMeta::default()
            },
            spec: DeploymentSpec {
                replicas: Some(replicas),
                selector: LabelSelector {
                    match_labels: labels.clone(),
                    ..LabelSelector::default()
                },
                strategy: Some(DeploymentStrategy {
                    type_: Some(strategy.to_owned()),
                    rolling_update: None,
                }),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels,
                        ..ObjectMeta::default()
                    }),
                    spec: Some(PodSpec::default()),
                },
                ..DeploymentSpec::default()
            },
            status: None,
        };
        Self {
            deployment,
            sets: Vec::new(),
            log: Vec::new(),
        }
    }

    fn set_image(&mut self, image: &str) {
        let container = Container {
            name: "c".to_owned(),
            image: Some(image.to_owned()),
            ..Container::default()
        };
        self.deployment.spec.template.spec = Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        });
    }

    /// Runs to the end; every Pod is available at once.
    fn settle(&mut self) {
        for _ in 0..100 {
            let sets = Sets::sort(
                &self.deployment,
                self.sets.iter().cloned().map(Arc::new).collect(),
            );
            let actions = plan(&self.deployment, &sets, false);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.apply(action);
            }
        }
        panic!("the rollout does not end: {:?}", self.log);
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create(mut set) => {
                self.log
                    .push(format!("create {}", set.spec.replicas.unwrap()));
                set.metadata.uid = set.metadata.name.clone();
                self.sets.push(*set);
            }
            Action::Scale { set, replicas } => {
                self.log
                    .push(format!("scale {} {replicas}", revision_of(&*set)));
                self.find(&set).spec.replicas = Some(replicas);
            }
            Action::Annotate { set, annotations } => {
                self.find(&set).annotations_mut().extend(annotations);
            }
            Action::SetRevision(revision) => {
                self.deployment
                    .annotations_mut()
                    .insert(REVISION.to_owned(), revision.to_string());
            }
            Action::Delete(set) => {
                self.log.push(format!("delete {}", revision_of(&*set)));
                self.sets.retain(|other| other.name_any() != set.name_any());
            }
        }
        for set in &mut self.sets {
            let replicas = set.spec.replicas.unwrap();
            let available_replicas = Some(replicas);
            set.status = Some(ReplicaSetStatus {
                replicas,
                available_replicas,
                ..ReplicaSetStatus::default()
            });
        }
    }

    fn find(&mut self, set: &ReplicaSet) -> &mut ReplicaSet {
        self.sets
            .iter_mut()
            .find(|other| other.name_any() == set.name_any())
            .unwrap()
    }
}

#[test]
fn a_rolling_update_replaces_within_bounds_and_a_rollback_reuses_the_old_set() {
    let mut world = World::new(2, "RollingUpdate");
    world.settle();
    assert_eq!(world.log, ["create 2"]);
    world.log.clear();
    let before = world.deployment.spec.template.clone();
    world.set_image("v2");
    world.settle();
    assert_eq!(
        world.log,
        ["create 1", "scale 1 1", "scale 2 2", "scale 1 0"]
    );
    assert_eq!(revision_of(&world.deployment), 2);
    world.deployment.spec.template = before;
    world.log.clear();
    world.settle();
    assert_eq!(
        world.log,
        ["scale 3 1", "scale 2 1", "scale 3 2", "scale 2 0"]
    );
    assert_eq!((revision_of(&world.deployment), world.sets.len()), (3, 2));
}

#[test]
fn recreate_stops_the_old_before_it_starts_the_new() {
    let mut world = World::new(2, "Recreate");
    world.settle();
    world.log.clear();
    world.set_image("v2");
    world.settle();
    assert_eq!(world.log, ["scale 1 0", "create 2"]);
}

#[test]
fn history_beyond_the_limit_is_deleted_oldest_first() {
    let mut world = World::new(1, "Recreate");
    world.deployment.spec.revision_history_limit = Some(1);
    for image in ["v1", "v2", "v3"] {
        world.set_image(image);
        world.settle();
    }
    assert_eq!(world.sets.len(), 2);
    assert!(world.log.contains(&"delete 1".to_owned()));
}

#[test]
fn a_paused_deployment_scales_and_rolls_nothing_out() {
    let mut world = World::new(1, "RollingUpdate");
    world.settle();
    world.log.clear();
    world.deployment.spec.paused = Some(true);
    world.set_image("v2");
    world.deployment.spec.replicas = Some(3);
    world.settle();
    assert_eq!(world.log, ["scale 1 3"]);
}

#[test]
fn a_set_selects_its_own_pods_only() {
    let mut world = World::new(1, "RollingUpdate");
    world.settle();
    let set = &world.sets[0];
    let hash = &set.labels()[TEMPLATE_HASH];
    assert_eq!(
        set.spec
            .selector
            .match_labels
            .as_ref()
            .unwrap()
            .get(TEMPLATE_HASH),
        Some(hash)
    );
    assert_eq!(set.name_any(), format!("web-{hash}"));
}
