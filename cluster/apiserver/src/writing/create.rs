//! Creation of one object.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    FieldValidation, WriteOptions, Written, admission, body_value, complete, decode, refused,
    respond,
};
use crate::api::call::Call;
use crate::machinery::apply::{self, track_update};
use crate::registry::Resource;
use crate::response::Body;
use crate::status::{ApiError, Cause};
use crate::store::{Change, Entry, Expect, StoreError, Write};
use crate::{clock, definitions, names, strategy};

/// How many generated names are tried.
const NAME_TRIES: usize = 8;

/// Answers a POST to a collection.
pub(crate) async fn create(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::of(call, "CreateOptions")?;
    let decoded = decode(call, &options)?;
    let mut object = decoded.object;
    let mut before = Vec::new();
    if decoded.wrong_kind {
        before.push(Cause::invalid(
            "kind",
            &object["kind"],
            &format!("must be {}", call.resource.kind),
        ));
    } else {
        complete::complete(call, &mut object, decoded.faults, &options)?;
    }
    place(call, &mut object)?;
    if object["metadata"]["resourceVersion"]
        .as_str()
        .is_some_and(|version| !version.is_empty())
    {
        return Err(ApiError::plain_internal(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let written = create_object(call, object, &options, before).await?;
    respond(call, StatusCode::CREATED, &written)
}

/// A POST to an object is a create without a collection: the body decides the fault.
pub(crate) fn refuse_create_by_name(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions {
        dry_run: true,
        field_manager: String::new(),
        field_validation: FieldValidation::Ignore,
    };
    body_value(call)?;
    decode(call, &options)?;
    Err(ApiError::method_not_allowed(
        &call.resource.group,
        &call.resource.plural,
        "create",
    ))
}

/// Sets the namespace of the path, or refuses another one.
pub(super) fn place(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let given = object["metadata"]["namespace"].as_str().unwrap_or_default();
    match call.namespace() {
        Some(namespace) if given.is_empty() => object["metadata"]["namespace"] = json!(namespace),
        Some(namespace) if given != namespace => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        None => strategy::remove(&mut object["metadata"], "namespace"),
        _ => {}
    }
    Ok(())
}

/// Stores a complete new object.
pub(crate) async fn create_object(
    call: &mut Call,
    object: Value,
    options: &WriteOptions,
    before: Vec<Cause>,
) -> Result<Written, ApiError> {
    let object = track(&call.resource, object, options, &clock::now());
    store_new(call, object, options, before).await
}

fn track(resource: &Resource, object: Value, options: &WriteOptions, now: &str) -> Value {
    let Some(schema) = resource.schema() else {
        return object;
    };
    let reset: &[&str] = if resource.has_status() {
        &["status"]
    } else {
        &[]
    };
    let api_version = resource.api_version();
    let write = apply::Write {
        schema,
        manager: &options.field_manager,
        api_version: &api_version,
        subresource: None,
        force: false,
        now,
        reset,
    };
    track_update(None, object, &write)
}

/// Stores a new object whose fields are tracked already.
pub(super) async fn store_new(
    call: &mut Call,
    mut object: Value,
    options: &WriteOptions,
    before: Vec<Cause>,
) -> Result<Written, ApiError> {
    let resource = Arc::clone(&call.resource);
    let base = object["metadata"]["generateName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let given = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let generated = given.is_empty() && !base.is_empty();
    stamp(&resource, &mut object);
    for attempt in 1..=NAME_TRIES {
        let mut candidate = object.clone();
        if generated {
            candidate["metadata"]["name"] = json!(names::generate(&base));
        }
        let name = candidate["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let mut faults = before.clone();
        if name.is_empty() {
            faults.push(Cause::required(
                "metadata.name",
                "name or generateName is required",
            ));
        } else {
            faults.extend(names::check(&resource, &name));
        }
        strategy::default(&resource, &mut candidate);
        admission::create(call, &mut candidate)?;
        strategy::prepare_create(&resource, &mut candidate);
        if resource.kind == "CustomResourceDefinition" {
            candidate["status"] = crate::registry::custom::initial_status(&candidate);
        }
        complete::check(call, &candidate, None, faults)?;
        if resource.is("", "services") && !options.dry_run {
            call.api.addresses.allocate(&mut candidate, None)?;
        }
        match insert(call, &name, candidate, options).await {
            Err(StoreError::Exists) if generated && attempt < NAME_TRIES => {}
            outcome => {
                let written = outcome.map_err(|error| refused(call, &name, &error))?;
                definitions::after_write(&call.api, &resource, &name).await;
                return Ok(written);
            }
        }
    }
    Err(ApiError::internal("no free name was found"))
}

/// Sets what only the server may set.
fn stamp(resource: &Resource, object: &mut Value) {
    let metadata = &mut object["metadata"];
    for name in [
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        strategy::remove(metadata, name);
    }
    metadata["uid"] = json!(uuid::Uuid::now_v7().to_string());
    metadata["creationTimestamp"] = json!(clock::now());
    if strategy::counts_generations(resource) {
        metadata["generation"] = json!(1);
    }
}

async fn insert(
    call: &Call,
    name: &str,
    mut object: Value,
    options: &WriteOptions,
) -> Result<Written, StoreError> {
    let resource = &call.resource;
    let namespace = object["metadata"]["namespace"].as_str();
    let key = resource.key(namespace, name);
    if options.dry_run {
        if call.api.store.get(&resource.shelf, &key).is_some() {
            return Err(StoreError::Exists);
        }
        return Ok(Written::DryRun(object));
    }
    let service = resource.is("", "services").then(|| object.clone());
    crate::present::to_storage(resource, &mut object);
    let write = Write {
        resource: Arc::clone(&resource.shelf),
        key,
        expect: Expect::Absent,
        change: Change::Put(object),
    };
    let outcome: Result<Arc<Entry>, StoreError> = call.api.store.write(write).await;
    if let (Err(_), Some(service)) = (&outcome, &service) {
        strategy::release_addresses(&call.api.addresses, service, None);
    }
    outcome.map(Written::Stored)
}
