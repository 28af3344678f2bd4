//! Binds Pods to the one node there is, or says why they do not fit.

pub(crate) mod fit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use crate::context::NodeContext;
use crate::pod::start::reference;
use crate::pod::status::whole_seconds;
use crate::pod::wanted::WantedPod;
use fit::{NodeRoom, misfit, requests};

const SCHEDULER: &str = "default-scheduler";
/// A Pod that was refused is looked at again after this time even if nothing was seen to change.
const RETRY: Duration = Duration::from_secs(30);

/// Schedules until the node shuts down.
pub(crate) async fn run(context: Arc<NodeContext>) {
    let mut pods = Box::pin(
        watcher(
            Api::<Pod>::all(context.client.clone()),
            watcher::Config::default(),
        )
        .default_backoff(),
    );
    let own = watcher::Config::default().fields(&format!("metadata.name={}", context.name));
    let mut nodes =
        Box::pin(watcher(Api::<Node>::all(context.client.clone()), own).default_backoff());
    let mut scheduler = Scheduler {
        context: Arc::clone(&context),
        pods: BTreeMap::new(),
        node: None,
    };
    let mut retry = tokio::time::interval(RETRY);
    let mut is_listing = true;
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            event = pods.next() => match event {
                Some(Ok(watcher::Event::Init)) => { is_listing = true; scheduler.pods.clear(); }
                Some(Ok(watcher::Event::InitDone)) => is_listing = false,
                Some(Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod))) => scheduler.note(pod),
                Some(Ok(watcher::Event::Delete(pod))) => drop(scheduler.pods.remove(&pod.uid().unwrap_or_default())),
                Some(Err(error)) => tracing::debug!(%error, "watch of pods interrupted"),
                None => return,
            },
            event = nodes.next() => match event {
                Some(Ok(watcher::Event::InitApply(node) | watcher::Event::Apply(node))) => scheduler.node = Some(node),
                Some(Ok(watcher::Event::Delete(_))) => scheduler.node = None,
                Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
                Some(Err(error)) => tracing::debug!(%error, "watch of the node interrupted"),
                None => return,
            },
            _ = retry.tick() => {}
        }
        if !is_listing {
            scheduler.schedule().await;
        }
    }
}

struct Scheduler {
    context: Arc<NodeContext>,
    pods: BTreeMap<String, Arc<Pod>>,
    node: Option<Node>,
}

impl Scheduler {
    fn note(&mut self, pod: Pod) {
        self.pods
            .insert(pod.uid().unwrap_or_default(), Arc::new(pod));
    }

    async fn schedule(&mut self) {
        let Some(node) = self.node.clone() else {
            return;
        };
        let mut waiting: Vec<Arc<Pod>> = self
            .pods
            .values()
            .filter(|pod| is_waiting(pod))
            .cloned()
            .collect();
        waiting.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        for pod in waiting {
            let room = self.room(&node);
            let Some(reason) = misfit(&pod, &room) else {
                if let Err(error) = self.bind(&pod).await {
                    tracing::warn!(pod = %pod.name_any(), %error, "pod not bound");
                }
                continue;
            };
            if let Err(error) = self
                .refuse(&pod, &format!("0/1 nodes are available: 1 {reason}."))
                .await
            {
                tracing::debug!(pod = %pod.name_any(), %error, "pod not marked as unschedulable");
            }
        }
    }

    fn room(&self, node: &Node) -> NodeRoom {
        let mut room = NodeRoom::of(node);
        let here = self.pods.values().filter(|pod| {
            let ended = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            let on_node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref())
                == Some(self.context.name.as_str());
            on_node && !matches!(ended, Some("Succeeded" | "Failed"))
        });
        for pod in here {
            room.take(&requests(pod));
        }
        room
    }

    async fn bind(&mut self, pod: &Arc<Pod>) -> Result<(), kube::Error> {
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(self.context.name.clone()),
                ..ObjectReference::default()
            },
        };
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let result: Result<serde_json::Value, _> = pods
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        match result {
            Ok(_) => {}
            // Someone else bound or deleted it; the watch will tell.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let message = format!(
            "Successfully assigned {namespace}/{name} to {}",
            self.context.name
        );
        self.context.events.normal(
            reference(&WantedPod::of(Arc::clone(pod)), None),
            "Scheduled",
            message,
        );
        let mut bound = Pod::clone(pod);
        if let Some(spec) = &mut bound.spec {
            spec.node_name = Some(self.context.name.clone());
        }
        self.note(bound);
        Ok(())
    }

    async fn refuse(&self, pod: &Arc<Pod>, message: &str) -> Result<(), kube::Error> {
        let before = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        let is_known = before.iter().any(|condition| {
            condition.type_ == "PodScheduled" && condition.message.as_deref() == Some(message)
        });
        if is_known {
            return Ok(());
        }
        let about = reference(&WantedPod::of(Arc::clone(pod)), None);
        self.context
            .events
            .warning(about, "FailedScheduling", message);
        let mut conditions: Vec<PodCondition> = before
            .into_iter()
            .filter(|condition| condition.type_ != "PodScheduled")
            .collect();
        conditions.push(PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(whole_seconds(Timestamp::now()))),
            ..PodCondition::default()
        });
        let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
        let pods: Api<Pod> = Api::namespaced(
            self.context.client.clone(),
            &pod.namespace().unwrap_or_default(),
        );
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch)
            .await
            .map(drop)
    }
}

fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec
        .scheduler_name
        .as_deref()
        .is_none_or(|name| name == SCHEDULER);
    let is_gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty());
    let ended = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    spec.node_name.as_deref().is_none_or(str::is_empty)
        && ours
        && !is_gated
        && pod.metadata.deletion_timestamp.is_none()
        && !matches!(ended, Some("Succeeded" | "Failed"))
}
