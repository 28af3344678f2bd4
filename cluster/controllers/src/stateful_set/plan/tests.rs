//! Whole lives of StatefulSets, step by step; `0` is a running Pod of ordinal 0, `0'` one of the newest template.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{
            ControllerRevision, RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{PersistentVolumeClaim, Pod, PodCondition, PodSpec, PodTemplateSpec},
    },
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::{Action, Replicas, plan, revision_of, status_of};
use crate::stateful_set::{build, revision::Revisions};

struct World {
    set: StatefulSet,
    pods: Vec<Pod>,
    revisions: Vec<ControllerRevision>,
    log: Vec<String>,
}

impl World {
    fn new(replicas: i32) -> Self {
        let mut set = StatefulSet {
            spec: StatefulSetSpec {
                replicas: Some(replicas),
                template: PodTemplateSpec {
                    spec: Some(PodSpec::default()),
                    ..PodTemplateSpec::default()
                },
                ..StatefulSetSpec::default()
            },
            ..StatefulSet::default()
        };
        set.metadata.name = Some("db".to_owned());
        Self {
            set,
            pods: Vec::new(),
            revisions: Vec::new(),
            log: Vec::new(),
        }
    }

    /// One reconcile; new Pods are ready at once unless told otherwise. Whether anything was done.
    fn step(&mut self, are_ready: bool) -> bool {
        let shared =
            |revisions: &[ControllerRevision]| revisions.iter().cloned().map(Arc::new).collect();
        let mut revisions = Revisions::sort(&self.set, shared(&self.revisions));
        if revisions.update.is_none() {
            self.revisions.push(revisions.new_revision(&self.set));
            revisions = Revisions::sort(&self.set, shared(&self.revisions));
        }
        let owned = self.pods.iter().cloned().map(Arc::new).collect();
        let replicas = Replicas::sort(&self.set, owned, Timestamp::UNIX_EPOCH);
        let actions = plan(&self.set, &replicas, &revisions);
        if let (Some(changed), _) = status_of(&self.set, &replicas, &revisions) {
            self.set = changed;
        }
        let has_acted = !actions.is_empty();
        for action in actions {
            match action {
                Action::Create(mut pod) => {
                    self.log
                        .push(format!("+{}", build::ordinal_of(&self.set, &pod).unwrap()));
                    let ready = PodCondition {
                        type_: "Ready".to_owned(),
                        status: if are_ready { "True" } else { "False" }.to_owned(),
                        ..PodCondition::default()
                    };
                    pod.status.get_or_insert_default().conditions = Some(vec![ready]);
                    self.pods.push(*pod);
                }
                Action::Delete(pod) => {
                    self.log
                        .push(format!("-{}", build::ordinal_of(&self.set, &pod).unwrap()));
                    self.pods.retain(|other| other.name_any() != pod.name_any());
                }
            }
        }
        has_acted
    }

    #[track_caller]
    fn settles(&mut self, expected: &str) {
        self.log.clear();
        for _ in 0..50 {
            if !self.step(true) {
                // Once more for the status of the last step.
                self.step(true);
                assert_eq!(self.log.join(" "), expected);
                return;
            }
        }
        panic!("no end: {:?}", self.log);
    }

    fn set_image(&mut self, image: &str) {
        let spec = self.set.spec.template.spec.as_mut().unwrap();
        spec.node_name = Some(image.to_owned());
    }

    fn is_rolled_out(&self) -> bool {
        let status = self.set.status.as_ref().unwrap();
        status.current_revision == status.update_revision
    }
}

#[test]
fn pods_start_in_order_and_stop_in_reverse() {
    let mut world = World::new(3);
    world.settles("+0 +1 +2");
    world.set.spec.replicas = Some(1);
    world.settles("-2 -1");
    world.set.spec.replicas = Some(2);
    world.settles("+1");
    assert!(world.is_rolled_out());
}

#[test]
fn a_pod_that_is_not_ready_holds_up_the_next_one() {
    let mut world = World::new(2);
    assert!(world.step(false));
    assert!(!world.step(false));
    world.set.spec.pod_management_policy = Some("Parallel".to_owned());
    assert!(world.step(false));
    assert_eq!(world.log, ["+0", "+1"]);
}

#[test]
fn an_update_goes_from_the_last_to_the_partition() {
    let mut world = World::new(3);
    world.settles("+0 +1 +2");
    world.set_image("v2");
    world.settles("-2 +2 -1 +1 -0 +0");
    assert!(world.is_rolled_out());
    world.set.spec.update_strategy = Some(StatefulSetUpdateStrategy {
        type_: None,
        rolling_update: Some(RollingUpdateStatefulSetStrategy {
            max_unavailable: None,
            partition: Some(2),
        }),
    });
    world.set_image("v3");
    world.settles("-2 +2");
    assert!(!world.is_rolled_out());
    let old = revision_of(&world.pods[0]).to_owned();
    // A Pod below the partition that is lost comes back as it was.
    world.pods.retain(|pod| pod.name_any() != "db-1");
    world.settles("+1");
    let one = world
        .pods
        .iter()
        .find(|pod| pod.name_any() == "db-1")
        .unwrap();
    assert_eq!(
        (
            revision_of(one) == old,
            one.spec.as_ref().unwrap().node_name.as_deref()
        ),
        (true, Some("v2"))
    );
}

#[test]
fn on_delete_replaces_nothing_by_itself() {
    let mut world = World::new(1);
    world.settles("+0");
    world.set.spec.update_strategy = Some(StatefulSetUpdateStrategy {
        type_: Some("OnDelete".to_owned()),
        rolling_update: None,
    });
    world.set_image("v2");
    world.settles("");
}

#[test]
fn names_volumes_and_claims_are_stable() {
    let mut world = World::new(1);
    let mut template = PersistentVolumeClaim::default();
    template.metadata.name = Some("data".to_owned());
    world.set.spec.volume_claim_templates = Some(vec![template]);
    world.set.spec.service_name = Some("svc".to_owned());
    world.settles("+0");
    let pod = &world.pods[0];
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-0"), Some("svc"))
    );
    let claims = build::claims(&world.set, pod);
    assert_eq!(claims[0].name_any(), "data-db-0");
    let volume = &spec.volumes.as_ref().unwrap()[0];
    assert_eq!(
        volume.persistent_volume_claim.as_ref().unwrap().claim_name,
        "data-db-0"
    );
}
