//! Deletion: preconditions, finalizers, grace for pods and namespaces, and whole collections.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::options::dry_run;
use super::{admission, body_value, refused};
use crate::api::call::Call;
use crate::negotiate::{Shape, negotiate};
use crate::reading;
use crate::registry::{Resource, custom};
use crate::request::Verb;
use crate::response::{Body, json_bytes, object};
use crate::selection::split;
use crate::status::{ApiError, Cause};
use crate::store::{Change, Entry, Expect, StoreError, Write};
use crate::values::list;
use crate::{clock, definitions, present, strategy};

const TRIES: usize = 8;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Kinds whose deletion answers with the object.
const ANSWERED_WITH_OBJECT: &[&str] = &[
    "pods",
    "services",
    "serviceaccounts",
    "persistentvolumes",
    "persistentvolumeclaims",
    "podtemplates",
    "replicationcontrollers",
    "resourcequotas",
];
const JOB_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// What happens to the objects that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Propagation {
    Default,
    Background,
    Foreground,
    Orphan,
}

/// How something is to be deleted.
#[derive(Debug, Clone)]
pub(crate) struct DeleteOptions {
    propagation: Propagation,
    grace_seconds: Option<i64>,
    uid: Option<String>,
    resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// From the body, or else the query.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let body = if call.body.is_empty() {
            Value::Null
        } else {
            body_value(call)?.0
        };
        Self::read(call, &body)
    }

    /// From a `DeleteOptions` object; without one, from the query.
    pub(crate) fn read(call: &Call, body: &Value) -> Result<Self, ApiError> {
        let mut causes = Vec::new();
        let query = body.is_null().then_some(&call.query);
        let named = body["propagationPolicy"].as_str();
        let named = named.or_else(|| call.query.get("propagationPolicy"));
        let orphans = query.and_then(|query| query.get("orphanDependents"));
        let orphans = body["orphanDependents"]
            .as_bool()
            .or(orphans.map(|value| value == "true"));
        let propagation = propagation(named, orphans, &mut causes);
        let grace = query.and_then(|query| query.get("gracePeriodSeconds"));
        let grace = body["gracePeriodSeconds"]
            .as_i64()
            .or(grace.and_then(|text| text.parse().ok()));
        if grace.is_some_and(|grace| grace < 0) {
            let why = "must be greater than or equal to 0";
            causes.push(Cause::invalid("gracePeriodSeconds", &json!(grace), why));
        }
        let listed = list(&body["dryRun"]).iter().filter_map(Value::as_str);
        let dry_run = dry_run(call.query.all("dryRun").chain(listed), &mut causes);
        if !causes.is_empty() {
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                causes,
            ));
        }
        let precondition = |name: &str| body["preconditions"][name].as_str().map(str::to_owned);
        Ok(Self {
            propagation,
            grace_seconds: grace,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            dry_run,
        })
    }

    fn check(&self, call: &Call, name: &str, old: &Value) -> Result<(), ApiError> {
        let conflict = |what: &str, wanted: &str, found: &str| {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {} and then recreated",
                if what == "UID" { "deleted" } else { "modified" }
            );
            let why = if what == "UID" {
                why
            } else {
                why.replace(" and then recreated", "")
            };
            Err(ApiError::conflict(
                &call.resource.group,
                &call.resource.kind,
                name,
                &why,
            ))
        };
        let found = |field: &str| {
            old["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        match (&self.uid, &self.resource_version) {
            (Some(uid), _) if *uid != found("uid") => conflict("UID", uid, &found("uid")),
            (_, Some(version)) if *version != found("resourceVersion") => {
                conflict("ResourceVersion", version, &found("resourceVersion"))
            }
            _ => Ok(()),
        }
    }
}

fn propagation(named: Option<&str>, orphans: Option<bool>, causes: &mut Vec<Cause>) -> Propagation {
    if orphans.is_some() && named.is_some() {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        causes.push(Cause::invalid("propagationPolicy", &json!(named), why));
    }
    match named {
        None if orphans == Some(true) => Propagation::Orphan,
        None if orphans == Some(false) => Propagation::Background,
        None => Propagation::Default,
        Some("Background") => Propagation::Background,
        Some("Foreground") => Propagation::Foreground,
        Some("Orphan") => Propagation::Orphan,
        Some(other) => {
            let supported = ["Foreground", "Background", "Orphan", "nil"].map(str::to_owned);
            causes.push(Cause::not_supported(
                "propagationPolicy",
                &json!(other),
                &supported,
            ));
            Propagation::Default
        }
    }
}

/// Answers a DELETE of an object.
pub(crate) async fn delete(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = DeleteOptions::of(call)?;
    let (shape, format) = negotiate(call.headers())?;
    let name = call.name().to_owned();
    if call.resource.is("batch", "jobs")
        && options.propagation == Propagation::Default
        && options.grace_seconds.is_none()
    {
        call.warnings.push(JOB_WARNING.to_owned());
    }
    let outcome = delete_object(
        call,
        call.target.namespace.clone().as_deref(),
        &name,
        &options,
    )
    .await?;
    match outcome {
        Deleted::Going(entry) if shape == Shape::Whole => Ok(json_bytes(
            StatusCode::OK,
            present::bytes(&call.resource, &entry),
        )),
        Deleted::Going(entry) => Ok(object(
            StatusCode::OK,
            &present::shaped(call, present::value(&call.resource, &entry), shape),
            format,
        )),
        Deleted::Shown(value) => Ok(object(StatusCode::OK, &value, format)),
        Deleted::Gone(last)
            if ANSWERED_WITH_OBJECT.contains(&call.resource.plural.as_str())
                && call.resource.group.is_empty() =>
        {
            Ok(object(StatusCode::OK, &last, format))
        }
        Deleted::Gone(last) => {
            let mut details = json!({"name": name});
            if !call.resource.group.is_empty() {
                details["group"] = json!(call.resource.group);
            }
            details["kind"] = json!(call.resource.plural);
            details["uid"] = last["metadata"]["uid"].clone();
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
            Ok(object(StatusCode::OK, &status, format))
        }
    }
}

/// How far a deletion came.
pub(crate) enum Deleted {
    /// The object waits for finalizers or its grace period.
    Going(Arc<Entry>),
    /// The same without having been written.
    Shown(Value),
    /// It is gone; its last state.
    Gone(Value),
}

/// Deletes one object of the call's resource.
pub(crate) async fn delete_object(
    call: &mut Call,
    namespace: Option<&str>,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, ApiError> {
    let resource = Arc::clone(&call.resource);
    let key = resource.key(namespace, name);
    for _ in 0..TRIES {
        let missing = || ApiError::not_found(&resource.group, &resource.plural, name);
        let entry = call
            .api
            .store
            .get(&resource.shelf, &key)
            .ok_or_else(missing)?;
        let old = present::value(&resource, &entry);
        options.check(call, name, &old)?;
        admission::delete(call, name)?;
        let plan = plan(&resource, &old, options);
        if options.dry_run {
            return Ok(match plan {
                Plan::Remove => Deleted::Gone(old),
                Plan::Keep => Deleted::Shown(old),
                Plan::Mark(next) => Deleted::Shown(next),
            });
        }
        let outcome = match plan {
            Plan::Keep => return Ok(Deleted::Going(entry)),
            Plan::Remove => {
                let mut last = entry.value();
                if resource.is("", "pods") {
                    mark(&mut last, 0);
                }
                remove_key(call, &key, &entry, last)
                    .await
                    .map(|gone| Deleted::Gone(gone.value()))
            }
            Plan::Mark(mut next) => {
                present::to_storage(&resource, &mut next);
                let write = Write {
                    resource: Arc::clone(&resource.shelf),
                    key: key.clone(),
                    expect: Expect::Revision(entry.revision),
                    change: Change::Put(next),
                };
                call.api.store.write(write).await.map(Deleted::Going)
            }
        };
        match outcome {
            Err(StoreError::Stale) => {}
            Err(error) => return Err(refused(call, name, &error)),
            Ok(deleted) => {
                if &*resource.shelf == custom::SHELF {
                    definitions::after_write(&call.api, &resource, name).await;
                }
                return Ok(deleted);
            }
        }
    }
    Err(ApiError::modified(&resource.group, &resource.plural, name))
}

/// What a deletion does to an object.
enum Plan {
    /// Nothing is left to wait for.
    Remove,
    /// It is being deleted already.
    Keep,
    /// It becomes this first.
    Mark(Value),
}

fn plan(resource: &Resource, old: &Value, options: &DeleteOptions) -> Plan {
    let mut next = old.clone();
    let was_going = old["metadata"].get("deletionTimestamp").is_some();
    set_propagation(resource, &mut next, options.propagation);
    let grace = grace(resource, old, options);
    let waits = !is_released(resource, &next);
    if grace == 0 && !waits {
        return Plan::Remove;
    }
    if was_going {
        let before = old["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default();
        if grace < before {
            mark(&mut next, grace);
        }
        return if next == *old {
            Plan::Keep
        } else {
            Plan::Mark(next)
        };
    }
    mark(&mut next, grace);
    if let Some(generation) = old["metadata"]["generation"]
        .as_i64()
        .filter(|_| resource.kind != "CustomResourceDefinition")
    {
        next["metadata"]["generation"] = json!(generation + 1);
    }
    match resource.kind.as_str() {
        "Namespace" if resource.group.is_empty() => {
            strategy::remove(&mut next["metadata"], "deletionGracePeriodSeconds");
            next["status"]["phase"] = json!("Terminating");
        }
        "CustomResourceDefinition" => {
            strategy::remove(&mut next["metadata"], "deletionGracePeriodSeconds");
            let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
            custom::terminating(&mut next, "InstanceDeletionPending", message);
        }
        _ => {}
    }
    Plan::Mark(next)
}

fn mark(object: &mut Value, grace: i64) {
    object["metadata"]["deletionTimestamp"] = json!(clock::format(clock::unix_seconds() + grace));
    object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
}

/// Adds and removes the finalizers that tell the garbage collector what to do.
fn set_propagation(resource: &Resource, object: &mut Value, propagation: Propagation) {
    let mut finalizers: Vec<Value> = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let propagation = match propagation {
        Propagation::Default if resource.is("batch", "jobs") => Propagation::Orphan,
        other => other,
    };
    let wanted = match propagation {
        Propagation::Default => None,
        Propagation::Background => Some(""),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    if let Some(wanted) = wanted {
        finalizers.retain(|finalizer| {
            *finalizer == wanted || (*finalizer != ORPHAN && *finalizer != FOREGROUND)
        });
        if !wanted.is_empty() && !finalizers.contains(&json!(wanted)) {
            finalizers.push(json!(wanted));
        }
    }
    if resource.kind == "CustomResourceDefinition" && !finalizers.contains(&json!(custom::CLEANUP))
    {
        finalizers.push(json!(custom::CLEANUP));
    }
    let list = (!finalizers.is_empty()).then_some(Value::Array(finalizers));
    strategy::put(&mut object["metadata"], "finalizers", list);
}

fn grace(resource: &Resource, object: &Value, options: &DeleteOptions) -> i64 {
    if !resource.is("", "pods") {
        return 0;
    }
    let never_ran = object["spec"]["nodeName"]
        .as_str()
        .is_none_or(str::is_empty);
    let ended = matches!(
        object["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    if never_ran || ended {
        return 0;
    }
    let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let wanted = options
        .grace_seconds
        .or(before)
        .or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64());
    wanted.unwrap_or(30)
}

/// Whether nobody asked to be waited for.
fn is_released(resource: &Resource, object: &Value) -> bool {
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let is_namespace = resource.is("", "namespaces");
    empty(&object["metadata"]["finalizers"])
        && (!is_namespace || empty(&object["spec"]["finalizers"]))
}

/// Whether an object that is being deleted waits for nothing any more.
pub(super) fn is_finished(resource: &Resource, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let going = metadata.get("deletionTimestamp").is_some();
    let grace = metadata["deletionGracePeriodSeconds"]
        .as_i64()
        .unwrap_or_default();
    going && grace == 0 && is_released(resource, object)
}

/// Removes the object in the path.
pub(super) async fn remove(
    call: &Call,
    entry: &Arc<Entry>,
    last: Value,
) -> Result<Arc<Entry>, StoreError> {
    remove_key(call, &call.key(), entry, last).await
}

async fn remove_key(
    call: &Call,
    key: &str,
    entry: &Arc<Entry>,
    last: Value,
) -> Result<Arc<Entry>, StoreError> {
    let resource = &call.resource;
    let service = resource.is("", "services").then(|| last.clone());
    let write = Write {
        resource: Arc::clone(&resource.shelf),
        key: key.to_owned(),
        expect: Expect::Revision(entry.revision),
        change: Change::Delete(last),
    };
    let gone = call.api.store.write(write).await?;
    if let Some(service) = service {
        strategy::release_addresses(&call.api.addresses, &service, None);
    }
    definitions::after_removal(&call.api, resource, split(key).1).await;
    Ok(gone)
}

/// Answers a DELETE of a collection.
pub(crate) async fn delete_collection(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = DeleteOptions::of(call)?;
    call.target.verb = Verb::List;
    let page = reading::page(call)?;
    let mut items = Vec::new();
    for entry in page.entries {
        let found = present::value(&call.resource, &entry);
        let namespace = found["metadata"]["namespace"].as_str().map(str::to_owned);
        let name = found["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match delete_object(call, namespace.as_deref(), &name, &options).await {
            Ok(Deleted::Going(entry)) => items.push(present::value(&call.resource, &entry)),
            Ok(Deleted::Shown(value) | Deleted::Gone(value)) => items.push(value),
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let mut metadata = json!({"resourceVersion": call.api.store.revision().to_string()});
    if call.resource.custom().is_some() {
        metadata["continue"] = json!("");
    }
    let list = json!({"kind": call.resource.list_kind, "apiVersion": call.resource.api_version(), "metadata": metadata, "items": items});
    let (_, format) = negotiate(call.headers())?;
    Ok(object(StatusCode::OK, &list, format))
}
