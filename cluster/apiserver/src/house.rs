//! Chores that no request asks for: old events go.

use std::sync::Arc;
use std::time::Duration;

use crate::api::Api;
use crate::events;

/// How often old events are looked for.
const INTERVAL: Duration = Duration::from_secs(60);

impl Api {
    /// Does the chores until shutdown.
    pub(crate) async fn keep_house(self: Arc<Self>) {
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => events::expire(&self).await,
                () = shutdown.cancelled() => return,
            }
        }
    }
}
