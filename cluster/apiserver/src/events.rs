//! Events: one shelf of core events, which `events.k8s.io` shows under other field names.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::api::Api;
use crate::clock;
use crate::registry::Resource;
use crate::store::{Change, Expect, Write};

/// Where events lie.
const SHELF: &str = "/events";
/// How long an event is kept after it happened last.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The same fields in the newer kind and in the core one.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Whether the resource shows events in either form.
pub(crate) fn is_event(resource: &Resource) -> bool {
    &*resource.shelf == SHELF
}

/// Whether the resource shows events in the form that is not stored.
pub(crate) fn is_view(resource: &Resource) -> bool {
    is_event(resource) && resource.group == "events.k8s.io"
}

/// Turns an event of the request's kind into what is stored.
pub(crate) fn to_stored(resource: &Resource, event: &mut Value) {
    if is_view(resource) && event["apiVersion"] != "v1" {
        rename(event, RENAMED);
    }
    event["apiVersion"] = Value::String("v1".to_owned());
}

/// Turns a stored event into the newer kind.
pub(crate) fn to_view(event: &mut Value) {
    rename(event, RENAMED.map(|(new, old)| (old, new)));
    event["apiVersion"] = Value::String("events.k8s.io/v1".to_owned());
}

fn rename<const N: usize>(event: &mut Value, names: [(&str, &str); N]) {
    let Some(fields) = event.as_object_mut() else {
        return;
    };
    let mut renamed = Map::new();
    for (name, value) in std::mem::take(fields) {
        let found = names.iter().find(|(from, _)| *from == name);
        renamed.insert(found.map_or(name, |(_, to)| (*to).to_owned()), value);
    }
    *fields = renamed;
}

/// Deletes events that are older than their lifetime.
pub(crate) async fn expire(api: &Arc<Api>) {
    let horizon =
        clock::unix_seconds().saturating_sub(i64::try_from(LIFETIME.as_secs()).unwrap_or(i64::MAX));
    let snapshot = api.store.snapshot(SHELF);
    for (key, entry) in snapshot.entries.iter() {
        let event = entry.value();
        let times = [
            &event["lastTimestamp"],
            &event["eventTime"],
            &event["series"]["lastObservedTime"],
            &event["metadata"]["creationTimestamp"],
        ];
        let last = times
            .iter()
            .filter_map(|time| clock::parse(time.as_str()?))
            .max();
        if last.is_none_or(|last| last > horizon) {
            continue;
        }
        let write = Write {
            resource: Arc::from(SHELF),
            key: key.to_string(),
            expect: Expect::Revision(entry.revision),
            change: Change::Delete(event),
        };
        if let Err(error) = api.store.write(write).await {
            tracing::debug!(%error, "an old event stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_carry_the_same() {
        let stored = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "count": 2});
        let mut shown = stored.clone();
        to_view(&mut shown);
        assert_eq!(shown["regarding"]["name"], "a");
        assert_eq!(shown["note"], "m");
        rename(&mut shown, RENAMED);
        shown["apiVersion"] = json!("v1");
        assert_eq!(shown, stored);
    }
}
