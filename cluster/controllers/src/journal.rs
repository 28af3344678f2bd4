//! Events: what a controller did, for `kubectl describe`; a lost one changes nothing.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::debug;

/// Where one controller tells what it did.
pub(crate) struct Journal {
    client: Client,
    reporter: Reporter,
    /// Counts repeated warnings into one Event.
    warnings: Recorder,
}

impl Journal {
    /// The journal of a controller, by the name that clients know.
    pub(crate) fn new(client: Client, controller: &str) -> Self {
        let reporter = Reporter {
            controller: controller.to_owned(),
            instance: None,
        };
        let warnings = Recorder::new(client.clone(), reporter.clone());
        Self {
            client,
            reporter,
            warnings,
        }
    }

    /// Tells that something was done to an object.
    pub(crate) async fn note<K>(&self, object: &K, reason: &str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        // A recorder of its own: one that remembers would take all Pods that were created for one and the same.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        publish(&recorder, object, EventType::Normal, reason, message).await;
    }

    /// Tells that something could not be done.
    pub(crate) async fn warn<K>(&self, object: &K, reason: &str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        publish(&self.warnings, object, EventType::Warning, reason, message).await;
    }
}

async fn publish<K: Resource<DynamicType = ()>>(
    recorder: &Recorder,
    object: &K,
    type_: EventType,
    reason: &str,
    message: String,
) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(message),
        action: reason.to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
        debug!(reason, %error, "an event is lost");
    }
}
