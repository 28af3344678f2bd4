//! Writes the Pod's status to the API, only when it has changed and one write at a time.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Outcome, STATUS_RETRY, Worker};
use crate::pod::status::{StatusContext, pod_status};

/// What was written last.
pub(super) struct Published {
    conditions: Vec<PodCondition>,
    status: Option<PodStatus>,
    is_writing: bool,
}

impl Published {
    pub(super) fn new(conditions: Vec<PodCondition>) -> Self {
        Self {
            conditions,
            status: None,
            is_writing: false,
        }
    }
}

impl Worker {
    /// Writes the status if it differs from what was written last.
    pub(super) fn publish(&mut self) {
        if self.status.is_writing || self.is_gone {
            return;
        }
        let status = pod_status(
            &self.wanted,
            &self.observed,
            StatusContext {
                host_ip: self.context.host_ip,
                backoff: &self.context.backoff,
                now: Timestamp::now(),
                previous: &self.status.conditions,
            },
        );
        if self.status.status.as_ref() == Some(&status) {
            return;
        }
        let conditions = status.conditions.clone().unwrap_or_default();
        let patch = patch(&self.wanted.id.uid, &status);
        self.status.status = Some(status);
        self.status.is_writing = true;
        let pods: Api<Pod> =
            Api::namespaced(self.context.client.clone(), &self.wanted.id.namespace);
        let name = self.wanted.id.name.clone();
        self.tasks.spawn(async move {
            match pods
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Ok(_) => Outcome::Published(Some(conditions)),
                // The Pod is gone or another one; its watch will say so.
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    Outcome::Published(Some(conditions))
                }
                Err(error) => {
                    tracing::debug!(pod = %name, %error, "status not written");
                    tokio::time::sleep(STATUS_RETRY).await;
                    Outcome::Published(None)
                }
            }
        });
    }

    pub(super) fn published(&mut self, conditions: Option<Vec<PodCondition>>) {
        self.status.is_writing = false;
        match conditions {
            Some(conditions) => self.status.conditions = conditions,
            None => self.status.status = None,
        }
    }
}

/// A merge patch; what a status does not have any more is removed by name.
fn patch(uid: &str, status: &PodStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        for name in ["reason", "message", "podIP", "podIPs"] {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    json!({"metadata": {"uid": uid}, "status": value})
}
