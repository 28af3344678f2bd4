//! What follows a write: definitions come into force and go with their instances, aggregated roles are filled.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::Api;
use crate::auth::rbac::aggregated_rules;
use crate::clock;
use crate::machinery::apply::{self, track_update};
use crate::registry::{Resource, custom};
use crate::store::{Change, Entry, Expect, Write};

const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
/// The manager under which the server's own changes of definitions are tracked.
const MANAGER: &str = "apiext";
const TRIES: usize = 8;

/// Follows a written object.
pub(crate) async fn after_write(api: &Arc<Api>, resource: &Resource, name: &str) {
    match &*resource.shelf {
        custom::SHELF => settle(api, name).await,
        CLUSTER_ROLES => fill_aggregated_roles(api).await,
        _ => {}
    }
}

/// Follows the removal of an object.
pub(crate) async fn after_removal(api: &Arc<Api>, resource: &Resource, name: &str) {
    if &*resource.shelf == custom::SHELF {
        api.registry.forget(name);
        Box::pin(load(api)).await;
    } else if &*resource.shelf == CLUSTER_ROLES {
        fill_aggregated_roles(api).await;
    } else if let Some(kind) = resource.custom().filter(|kind| kind.is_terminating) {
        Box::pin(settle(api, &kind.definition)).await;
    }
}

/// Brings every stored definition into force.
pub(crate) async fn load(api: &Arc<Api>) {
    let names: Vec<Arc<str>> = api
        .store
        .snapshot(custom::SHELF)
        .entries
        .keys()
        .cloned()
        .collect();
    for name in names {
        settle(api, &name).await;
    }
}

/// Establishes or ends a definition, as its state asks for.
async fn settle(api: &Arc<Api>, name: &str) {
    let Some(entry) = api.store.get(custom::SHELF, name) else {
        return;
    };
    let definition = entry.value();
    if definition["metadata"].get("deletionTimestamp").is_some() {
        serve(api, &definition, &entry);
        Box::pin(end(api, name)).await;
        return;
    }
    let others: Vec<Value> = api
        .store
        .snapshot(custom::SHELF)
        .entries
        .values()
        .map(|entry| entry.value())
        .collect();
    let entry = match custom::establish(&definition, &others) {
        Some(next) => match write(api, &entry, &definition, next).await {
            Some(entry) => entry,
            None => return,
        },
        None => entry,
    };
    serve(api, &entry.value(), &entry);
}

fn serve(api: &Api, definition: &Value, entry: &Entry) {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let resources = custom::resources(definition, entry.revision);
    for resource in &resources {
        api.store.open_shelf(&resource.shelf);
    }
    api.registry.define(name, entry.revision, resources);
}

/// Deletes the instances of a definition, then the definition.
async fn end(api: &Arc<Api>, name: &str) {
    for _ in 0..TRIES {
        let Some(entry) = api.store.get(custom::SHELF, name) else {
            return;
        };
        let definition = entry.value();
        let finalizers = definition["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if !finalizers.contains(&json!(custom::CLEANUP)) {
            return;
        }
        if delete_instances(api, &definition).await > 0 {
            let mut next = definition.clone();
            custom::terminating(
                &mut next,
                "InstanceDeletionInProgress",
                "CustomResource deletion is in progress",
            );
            if next != definition && write(api, &entry, &definition, next).await.is_none() {
                continue;
            }
            return;
        }
        let rest: Vec<Value> = finalizers
            .into_iter()
            .filter(|finalizer| *finalizer != custom::CLEANUP)
            .collect();
        let mut next = definition.clone();
        let is_last = rest.is_empty();
        crate::strategy::put(
            &mut next["metadata"],
            "finalizers",
            (!is_last).then_some(Value::Array(rest)),
        );
        let change = if is_last {
            Change::Delete(next)
        } else {
            Change::Put(next)
        };
        let write = Write {
            resource: Arc::from(custom::SHELF),
            key: name.to_owned(),
            expect: Expect::Revision(entry.revision),
            change,
        };
        if api.store.write(write).await.is_ok() {
            if is_last {
                forget_definition(api, &definition);
                // Its names are free for another.
                Box::pin(load(api)).await;
            }
            return;
        }
    }
}

/// Marks or removes every instance; returns how many are left.
async fn delete_instances(api: &Arc<Api>, definition: &Value) -> usize {
    let shelf = shelf_of(definition);
    let mut left = 0;
    for (key, entry) in api.store.snapshot(&shelf).entries.iter() {
        let mut object = entry.value();
        let waits = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
        let change = if !waits {
            Change::Delete(object)
        } else if object["metadata"].get("deletionTimestamp").is_some() {
            left += 1;
            continue;
        } else {
            object["metadata"]["deletionTimestamp"] = json!(clock::now());
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            Change::Put(object)
        };
        let write = Write {
            resource: Arc::clone(&shelf),
            key: key.to_string(),
            expect: Expect::Revision(entry.revision),
            change,
        };
        let failed = api.store.write(write).await.is_err();
        if waits || failed {
            left += 1;
        }
    }
    left
}

fn shelf_of(definition: &Value) -> Arc<str> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Arc::from(format!(
        "{}/{}",
        text(&definition["spec"]["group"]),
        text(&definition["spec"]["names"]["plural"])
    ))
}

fn forget_definition(api: &Api, definition: &Value) {
    api.registry
        .forget(definition["metadata"]["name"].as_str().unwrap_or_default());
    api.store.close_shelf(&shelf_of(definition));
}

/// Writes a definition's status as the server.
async fn write(api: &Arc<Api>, entry: &Arc<Entry>, old: &Value, next: Value) -> Option<Arc<Entry>> {
    let schema =
        crate::machinery::builtin::schema("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let next = match schema {
        Some(schema) => {
            let write = apply::Write {
                schema,
                manager: MANAGER,
                api_version: "apiextensions.k8s.io/v1",
                subresource: Some("status"),
                force: false,
                now: &clock::now(),
                reset: &["spec"],
            };
            track_update(Some(old), next, &write)
        }
        None => next,
    };
    let key = old["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let write = Write {
        resource: Arc::from(custom::SHELF),
        key,
        expect: Expect::Revision(entry.revision),
        change: Change::Put(next),
    };
    match api.store.write(write).await {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::warn!(%error, "a definition's status was not written");
            None
        }
    }
}

/// Shows in every aggregated role the rules that it has.
async fn fill_aggregated_roles(api: &Arc<Api>) {
    let snapshot = api.store.snapshot(CLUSTER_ROLES);
    for (name, entry) in snapshot.entries.iter() {
        let Some(rules) = aggregated_rules(&api.store, name) else {
            continue;
        };
        let mut role = entry.value();
        let Ok(rules) = serde_json::to_value(rules) else {
            continue;
        };
        if role["rules"] == rules {
            continue;
        }
        role["rules"] = rules;
        let write = Write {
            resource: Arc::from(CLUSTER_ROLES),
            key: name.to_string(),
            expect: Expect::Revision(entry.revision),
            change: Change::Put(role),
        };
        if let Err(error) = api.store.write(write).await {
            tracing::debug!(%error, "an aggregated role was not filled");
        }
    }
}
