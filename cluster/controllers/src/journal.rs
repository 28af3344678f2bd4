//! Events: what a controller did, for `kubectl describe`; a lost one changes nothing.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::debug;

/// Where one controller tells what it did.
pub(crate) struct Journal {
    recorder: Recorder,
}

impl Journal {
    /// The journal of a controller, by the name that clients know.
    pub(crate) fn new(client: Client, controller: &str) -> Self {
        let reporter = Reporter {
            controller: controller.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Tells that something was done to an object.
    pub(crate) async fn note<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        message: String,
    ) {
        self.publish(object, EventType::Normal, reason, message)
            .await;
    }

    /// Tells that something could not be done.
    pub(crate) async fn warn<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        message: String,
    ) {
        self.publish(object, EventType::Warning, reason, message)
            .await;
    }

    async fn publish<K: Resource<DynamicType = ()>>(
        &self,
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
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            debug!(reason, %error, "an event is lost");
        }
    }
}
