//! What the node knows about a running Pod: the state of each container, as plain values.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerStatusUnknown`.
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
    pub(crate) container_id: Option<String>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

/// What one container does now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ContainerState {
    #[default]
    Absent,
    /// Its image or process is on the way.
    Starting,
    /// It could not be started.
    Refused {
        reason: String,
        message: String,
        retry_at: Timestamp,
    },
    Running {
        id: String,
        since: Timestamp,
        stopping: bool,
    },
    Exited(Exit),
}

/// One container of the Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObservedContainer {
    pub(crate) state: ContainerState,
    pub(crate) last_exit: Option<Exit>,
    pub(crate) restart_count: u32,
    /// Ends in a row without a long run between them; decides the back-off.
    pub(crate) crashes: u32,
    /// How often in a row it could not be started.
    pub(crate) refusals: u32,
    /// Passed its startup probe, or has none.
    pub(crate) started: bool,
    /// Passes its readiness probe, or has none.
    pub(crate) ready: bool,
    /// A probe asks for its restart, with the reason.
    pub(crate) unhealthy: Option<String>,
    pub(crate) image_id: Option<String>,
    /// Whether and how it is isolated from the host.
    pub(crate) isolation: Option<String>,
}

impl ObservedContainer {
    pub(crate) fn is_alive(&self) -> bool {
        matches!(
            self.state,
            ContainerState::Starting | ContainerState::Running { .. }
        )
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.state {
            ContainerState::Exited(exit) => Some(exit),
            ContainerState::Absent
            | ContainerState::Starting
            | ContainerState::Refused { .. }
            | ContainerState::Running { .. } => None,
        }
    }
}

/// Whether the Pod's address, folders and volumes are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ground {
    #[default]
    Absent,
    Preparing,
    /// A volume or the address could not be made.
    Refused {
        message: String,
        retry_at: Timestamp,
    },
    Ready,
    TearingDown,
    /// Everything the Pod had on this host is gone.
    Gone,
}

/// Everything the node knows about one Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObservedPod {
    pub(crate) ground: Ground,
    pub(crate) refusals: u32,
    pub(crate) ip: Option<Ipv4Addr>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) containers: BTreeMap<String, ObservedContainer>,
    /// The Pod was failed as a whole, with reason and message.
    pub(crate) failed: Option<(String, String)>,
    /// The object was asked to be removed from the API.
    pub(crate) deleted: bool,
}

impl ObservedPod {
    pub(crate) fn container(&self, name: &str) -> ObservedContainer {
        self.containers.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn container_mut(&mut self, name: &str) -> &mut ObservedContainer {
        self.containers.entry(name.to_owned()).or_default()
    }

    pub(crate) fn any_alive(&self) -> bool {
        self.containers.values().any(ObservedContainer::is_alive)
    }
}
