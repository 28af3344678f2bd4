//! What a Pod asks for, parsed once: containers in start order, their roles, the restart policy and a pending deletion.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;

const GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// Names one incarnation of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodId {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl PodId {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        }
    }

    /// The folder name under which this Pod's logs lie.
    pub(crate) fn log_folder(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }
}

/// When a container of the Pod is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// The part a container plays in its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to completion before what follows.
    Init,
    /// Started in the order of init containers, then stays beside the main containers.
    Sidecar,
    Main,
}

/// One container as its Pod asks for it.
#[derive(Clone, Debug)]
pub(crate) struct WantedContainer {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) spec: Container,
}

/// A Pod as the node reads it.
#[derive(Clone, Debug)]
pub(crate) struct WantedPod {
    pub(crate) object: Arc<Pod>,
    pub(crate) id: PodId,
    /// Init containers and sidecars in order, then the main containers.
    pub(crate) containers: Vec<WantedContainer>,
    pub(crate) restart_policy: RestartPolicy,
    /// How long the containers may take to end once the Pod is deleted; `None` while it is not.
    pub(crate) deletion_grace: Option<Duration>,
    pub(crate) termination_grace: Duration,
    pub(crate) active_deadline: Option<Duration>,
}

impl WantedPod {
    pub(crate) fn of(object: Arc<Pod>) -> Self {
        let empty = PodSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let init = spec.init_containers.iter().flatten().map(|container| {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            wanted(container, if sidecar { Role::Sidecar } else { Role::Init })
        });
        let main = spec
            .containers
            .iter()
            .map(|container| wanted(container, Role::Main));
        let termination_grace = spec
            .termination_grace_period_seconds
            .map_or(GRACE_DEFAULT, seconds);
        let deletion_grace = object.metadata.deletion_timestamp.as_ref().map(|_| {
            object
                .metadata
                .deletion_grace_period_seconds
                .map_or(termination_grace, seconds)
        });
        Self {
            id: PodId::of(&object),
            containers: init.chain(main).collect(),
            restart_policy: match spec.restart_policy.as_deref() {
                Some("Never") => RestartPolicy::Never,
                Some("OnFailure") => RestartPolicy::OnFailure,
                _ => RestartPolicy::Always,
            },
            deletion_grace,
            termination_grace,
            active_deadline: spec.active_deadline_seconds.map(seconds),
            object,
        }
    }

    pub(crate) fn spec(&self) -> PodSpec {
        self.object.spec.clone().unwrap_or_default()
    }

    pub(crate) fn of_role(&self, role: Role) -> impl Iterator<Item = &WantedContainer> {
        self.containers
            .iter()
            .filter(move |container| container.role == role)
    }

    /// When the Pod was taken up by a node, as far as its status says.
    pub(crate) fn started_at(&self) -> Option<Timestamp> {
        self.object
            .status
            .as_ref()?
            .start_time
            .as_ref()
            .map(|time| time.0)
    }
}

fn wanted(spec: &Container, role: Role) -> WantedContainer {
    WantedContainer {
        name: spec.name.clone(),
        role,
        spec: spec.clone(),
    }
}

pub(crate) fn seconds(value: i64) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}
