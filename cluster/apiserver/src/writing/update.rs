//! Update and patch of one object: read, change, check, compare-and-swap, again when somebody else came first.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    WriteOptions, Written, admission, complete, create, decode, delete, patching, refused, respond,
};
use crate::api::call::Call;
use crate::machinery::apply::{self, track_update};
use crate::present;
use crate::registry::{Origin, Resource};
use crate::response::Body;
use crate::status::{ApiError, Cause};
use crate::store::{self, Entry, Expect, StoreError};
use crate::{clock, definitions, events, strategy};

/// How often a change without a resource version is tried again.
const TRIES: usize = 8;

/// A function of the server's own from state to state.
pub(crate) type Edit = Box<dyn Fn(&mut Value) -> Result<(), ApiError> + Send + Sync>;

/// How the next state comes from the present one.
pub(crate) enum Change {
    /// It is this.
    Replace(Value),
    /// It is what the patch makes of the present state.
    Patch(patching::Patch),
    /// The server's own function of the present state; its fields are tracked like an update.
    Edit(Edit),
}

/// Answers a PUT of an object.
pub(crate) async fn update(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::of(call, "UpdateOptions")?;
    let decoded = decode(call, &options)?;
    if decoded.wrong_kind {
        let cause = Cause::invalid(
            "kind",
            &decoded.object["kind"],
            &format!("must be {}", call.resource.kind),
        );
        return Err(ApiError::invalid(
            &call.resource.group,
            &call.resource.kind,
            call.name(),
            vec![cause],
        ));
    }
    let mut object = decoded.object;
    complete::complete(call, &mut object, decoded.faults, &options)?;
    create::place(call, &mut object)?;
    fill_name(call, &mut object)?;
    let (written, _) = update_object(call, Change::Replace(object), &options).await?;
    respond(call, StatusCode::OK, &written)
}

/// Answers a PATCH of an object.
pub(crate) async fn patch(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let patch = patching::Patch::read(call)?;
    let options = WriteOptions::of(call, "PatchOptions")?;
    let (written, created) = update_object(call, Change::Patch(patch), &options).await?;
    respond(
        call,
        if created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        &written,
    )
}

/// A body without a name means the object in the path.
fn fill_name(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let given = object["metadata"]["name"].as_str().unwrap_or_default();
    let name = call.name();
    if given.is_empty() {
        object["metadata"]["name"] = json!(name);
    } else if given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}

/// Changes the object in the path; tells whether that created it.
pub(crate) async fn update_object(
    call: &mut Call,
    change: Change,
    options: &WriteOptions,
) -> Result<(Written, bool), ApiError> {
    for _ in 0..TRIES {
        let Some(entry) = call.api.store.get(&call.resource.shelf, &call.key()) else {
            let Change::Patch(patch) = &change else {
                return Err(call.not_found());
            };
            let Some(object) = patch.create(call, options)? else {
                return Err(call.not_found());
            };
            let written = create::store_new(call, object, options, Vec::new()).await?;
            return Ok((written, true));
        };
        let old = stored(&call.resource, &entry);
        let mut new = match &change {
            Change::Replace(object) => object.clone(),
            Change::Patch(patch) if events::is_event(&call.resource) => {
                let shown = present::value(&call.resource, &entry);
                patch.apply(call, &shown, options)?
            }
            Change::Patch(patch) => patch.apply(call, &old, options)?,
            Change::Edit(edit) => {
                let mut object = old.clone();
                edit(&mut object)?;
                object
            }
        };
        let version = new["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        check_identity(call, &change, &old, &new, &version)?;
        let conditional = !version.is_empty()
            && !matches!(change, Change::Edit(_))
            && is_given(&change, &old, &version);
        let is_apply = matches!(&change, Change::Patch(patch) if patch.is_apply());
        carry(
            &call.resource,
            call.target.subresource.as_deref(),
            &old,
            &mut new,
        );
        let is_tracked = !is_apply && call.target.subresource.as_deref() != Some("binding");
        let new = if is_tracked {
            track(call, &old, new, options)
        } else {
            new
        };
        match replace(call, &entry, &old, new, options).await {
            Err(Failure::Store(StoreError::Stale)) if !conditional => {}
            Err(Failure::Store(error)) => return Err(refused(call, call.name(), &error)),
            Err(Failure::Api(error)) => return Err(error),
            Ok(written) => return Ok((written, false)),
        }
    }
    Err(ApiError::modified(
        &call.resource.group,
        &call.resource.plural,
        call.name(),
    ))
}

/// A stored object in the version of the request, ready to be changed.
fn stored(resource: &Resource, entry: &Entry) -> Value {
    let mut object = entry.value();
    if let Origin::Custom(_) = resource.origin {
        object = present::value(resource, entry);
    }
    object
}

/// Whether the client (and not the object it read) demands this resource version.
fn is_given(change: &Change, old: &Value, version: &str) -> bool {
    match change {
        Change::Replace(_) => true,
        Change::Patch(patch) => {
            patch.names_version() || old["metadata"]["resourceVersion"].as_str() != Some(version)
        }
        Change::Edit(_) => false,
    }
}

fn check_identity(
    call: &Call,
    change: &Change,
    old: &Value,
    new: &Value,
    version: &str,
) -> Result<(), ApiError> {
    let resource = &call.resource;
    let (group, plural, name) = (&resource.group, &resource.plural, call.name());
    let given = new["metadata"]["name"].as_str().unwrap_or_default();
    if given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
    let stored = old["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && uid != stored {
        let key = format!("/registry/{}{}", registry_prefix(resource), call.key());
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}"
        );
        return Err(ApiError::conflict(group, plural, name, &why));
    }
    if version.is_empty() {
        let needed = resource.custom().is_some() && matches!(change, Change::Replace(_));
        if needed {
            let cause = Cause::invalid(
                "metadata.resourceVersion",
                &json!(0),
                "must be specified for an update",
            );
            return Err(ApiError::invalid(group, plural, name, vec![cause]));
        }
        return Ok(());
    }
    if Some(version) != old["metadata"]["resourceVersion"].as_str() {
        return Err(ApiError::modified(group, plural, name));
    }
    Ok(())
}

/// The path under which the real server stores a kind.
fn registry_prefix(resource: &Resource) -> String {
    if resource.custom().is_some() {
        return format!(
            "apiextensions.kubernetes.io/{}/{}/",
            resource.group, resource.plural
        );
    }
    format!("{}/", resource.plural)
}

/// Keeps what a client cannot change.
fn carry(resource: &Resource, subresource: Option<&str>, old: &Value, new: &mut Value) {
    strategy::prepare_update(resource, subresource, old, new);
    for name in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "namespace",
        "generateName",
    ] {
        let kept = old["metadata"].get(name).cloned();
        if kept.is_some() || name != "generateName" {
            strategy::put(&mut new["metadata"], name, kept);
        }
    }
}

fn track(call: &Call, old: &Value, new: Value, options: &WriteOptions) -> Value {
    let resource = &call.resource;
    let Some(schema) = resource.schema() else {
        return new;
    };
    let api_version = resource.api_version();
    let subresource = call.target.subresource.as_deref();
    let write = apply::Write {
        schema,
        manager: &options.field_manager,
        api_version: &api_version,
        subresource,
        force: false,
        now: &clock::now(),
        reset: reset_fields(resource, subresource),
    };
    if let ("scale", Some(paths)) = (subresource.unwrap_or_default(), &resource.scale) {
        return apply::scale_to_parent(old, &new, &paths.spec_replicas, &write);
    }
    track_update(Some(old), new, &write)
}

/// The fields that an endpoint ignores.
pub(super) fn reset_fields(
    resource: &Resource,
    subresource: Option<&str>,
) -> &'static [&'static str] {
    match subresource {
        Some("status") => &["spec"],
        Some(_) => &[],
        None if resource.has_status() => &["status"],
        None => &[],
    }
}

/// Why a replacement failed.
enum Failure {
    Api(ApiError),
    Store(StoreError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

async fn replace(
    call: &mut Call,
    entry: &Arc<Entry>,
    old: &Value,
    mut new: Value,
    options: &WriteOptions,
) -> Result<Written, Failure> {
    let resource = Arc::clone(&call.resource);
    strategy::default(&resource, &mut new);
    let binds = call.target.subresource.as_deref() == Some("binding");
    if !binds && strategy::counts_generations(&resource) && differs_in_content(old, &new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
        new["metadata"]["generation"] = json!(generation);
    }
    if new == *old {
        return Ok(Written::Stored(Arc::clone(entry)));
    }
    admission::update(call, old, &mut new)?;
    complete::check(call, &new, Some(old), Vec::new())?;
    if options.dry_run {
        return Ok(Written::DryRun(new));
    }
    if delete::is_finished(&resource, &new) {
        return delete::remove(call, entry, new)
            .await
            .map(Written::Stored)
            .map_err(Failure::Store);
    }
    let is_service = resource.is("", "services") && call.target.subresource.is_none();
    if is_service {
        call.api.addresses.allocate(&mut new, Some(old))?;
    }
    let kept = is_service.then(|| new.clone());
    present::to_storage(&resource, &mut new);
    let write = store::Write {
        resource: Arc::clone(&resource.shelf),
        key: call.key(),
        expect: Expect::Revision(entry.revision),
        change: store::Change::Put(new),
    };
    let outcome = call.api.store.write(write).await;
    if let Some(kept) = &kept {
        // What was taken for the loser is free again.
        match &outcome {
            Ok(_) => strategy::release_addresses(&call.api.addresses, old, Some(kept)),
            Err(_) => strategy::release_addresses(&call.api.addresses, kept, Some(old)),
        }
    }
    let entry = outcome.map_err(Failure::Store)?;
    definitions::after_write(&call.api, &resource, call.name()).await;
    Ok(Written::Stored(entry))
}

/// Whether two states differ outside metadata and status.
fn differs_in_content(old: &Value, new: &Value) -> bool {
    let differs = |left: &Value, right: &Value| {
        let fields = left.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "apiVersion"))
            .any(|(name, value)| right.get(name) != Some(value))
    };
    differs(old, new) || differs(new, old)
}
