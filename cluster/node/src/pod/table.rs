//! The Pods that run here, for those who come from outside: logs, exec, attach and port-forward.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{Mutex, broadcast};

use super::wanted::PodId;
use crate::logs::pump::Chunk;
use crate::runtime::{RunningContainer, Writer};

/// The way into one container.
#[derive(Clone, Default)]
pub(crate) struct ContainerDoor {
    /// The attempt that runs or ran last; `None` before the first.
    pub(crate) attempt: Option<u32>,
    pub(crate) running: Option<Arc<dyn RunningContainer>>,
    pub(crate) output: Option<broadcast::Sender<Chunk>>,
    pub(crate) stdin: Option<Arc<Mutex<Writer>>>,
}

/// The way into one Pod.
#[derive(Clone)]
pub(crate) struct PodDoor {
    pub(crate) id: PodId,
    pub(crate) ip: Option<Ipv4Addr>,
    /// In the order of the Pod's spec, main containers first.
    pub(crate) order: Vec<String>,
    pub(crate) containers: BTreeMap<String, ContainerDoor>,
}

/// All Pods of the node by namespace and name.
#[derive(Clone, Default)]
pub(crate) struct PodTable {
    doors: Arc<RwLock<HashMap<(String, String), PodDoor>>>,
}

impl PodTable {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<PodDoor> {
        self.doors
            .read()
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// The running containers of the Pod with this address.
    pub(crate) fn with_address(&self, ip: Ipv4Addr) -> Option<PodDoor> {
        self.doors
            .read()
            .values()
            .find(|door| door.ip == Some(ip))
            .cloned()
    }

    pub(crate) fn put(&self, door: PodDoor) {
        let key = (door.id.namespace.clone(), door.id.name.clone());
        self.doors.write().insert(key, door);
    }

    /// Changes the door of this incarnation of the Pod, if it is there.
    pub(crate) fn update(&self, id: &PodId, change: impl FnOnce(&mut PodDoor)) {
        let mut doors = self.doors.write();
        if let Some(door) = doors.get_mut(&(id.namespace.clone(), id.name.clone()))
            && door.id == *id
        {
            change(door);
        }
    }

    pub(crate) fn remove(&self, id: &PodId) {
        let mut doors = self.doors.write();
        let key = (id.namespace.clone(), id.name.clone());
        if doors.get(&key).is_some_and(|door| door.id == *id) {
            doors.remove(&key);
        }
    }
}
