//! The runs API: create, list, read, cancel.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use protocol::{
    openai::ErrorKind,
    runs::{NewRun, Run, RunList},
};
use serde_json::Value;

use super::{
    App,
    auth::Caller,
    error::ApiError,
    input::{Body, idempotency_key},
};
use crate::{
    catalog::LiveAgent,
    store::{Account, Creation, NewRecord, RunId, RunRecord},
};

/// Deepest nesting of an input; JSON that is deeper is refused by the parser already.
const INPUT_BYTES_MAX: usize = 2 << 20;

pub(super) async fn create(
    State(app): State<App>,
    Caller(account): Caller,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    Body(new): Body<NewRun>,
) -> Result<(StatusCode, Json<Run>), ApiError> {
    let agent = callable(&app, &account, &namespace, &name)?;
    let key = idempotency_key(&headers)?;
    let (run, is_new) = start(&app, &agent, account, new.input, key).await?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(run.into())))
}

pub(super) async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<RunList>, ApiError> {
    callable(&app, &account, &namespace, &name)?;
    let runs = app.services.store.runs(namespace, name, account).await?;
    Ok(Json(RunList {
        data: runs.into_iter().map(Run::from).collect(),
    }))
}

pub(super) async fn read(
    State(app): State<App>,
    Caller(account): Caller,
    Path(id): Path<String>,
) -> Result<Json<Run>, ApiError> {
    Ok(Json(own(&app, &account, &id).await?.into()))
}

pub(super) async fn cancel(
    State(app): State<App>,
    Caller(account): Caller,
    Path(id): Path<String>,
) -> Result<Json<Run>, ApiError> {
    let run = own(&app, &account, &id).await?;
    Ok(Json(stop(&app, run.id).await?.into()))
}

fn callable(
    app: &App,
    account: &Account,
    namespace: &str,
    name: &str,
) -> Result<Arc<LiveAgent>, ApiError> {
    app.services
        .catalog
        .callable(account, namespace, name)
        .ok_or_else(|| {
            let message =
                format!("there is no agent `{namespace}/{name}`, or this key may not call it");
            ApiError::new(ErrorKind::ModelNotFound, message)
        })
}

/// A run that the caller started; others do not learn that it exists.
pub(super) async fn own(app: &App, account: &Account, id: &str) -> Result<RunRecord, ApiError> {
    let id = RunId::parse(id).ok_or_else(ApiError::no_run)?;
    let run = app.services.store.run(id).await?;
    if run.account == *account {
        Ok(run)
    } else {
        Err(ApiError::no_run())
    }
}

/// Starts a run; the flag says whether it is new, or the one that the idempotency key started before.
pub(super) async fn start(
    app: &App,
    agent: &LiveAgent,
    account: Account,
    input: Value,
    idempotency_key: Option<String>,
) -> Result<(RunRecord, bool), ApiError> {
    let AgentName { namespace, name } = AgentName::of(agent);
    if agent.entry.suspended {
        let message = format!("agent `{namespace}/{name}` is suspended and takes no new runs");
        return Err(ApiError::new(ErrorKind::Unavailable, message));
    }
    if INPUT_BYTES_MAX < input.to_string().len() {
        let message = format!("the input is larger than {INPUT_BYTES_MAX} bytes");
        return Err(ApiError::new(ErrorKind::RequestTooLarge, message));
    }
    if app.dispatcher.is_full() {
        return Err(ApiError::new(
            ErrorKind::RateLimited,
            "too many runs wait; retry later",
        ));
    }
    let new = NewRecord {
        id: RunId::mint(),
        namespace,
        agent: name,
        account,
        revision: agent.compiled.revision.clone(),
        definition: agent.pinned.clone(),
        input,
        idempotency_key,
    };
    match app.services.store.create(new).await? {
        Creation::Created(run) => {
            app.services.metrics.run_created();
            app.dispatcher.enqueue(run.account.clone(), run.id.clone());
            Ok((run, true))
        }
        Creation::Repeated(run) => Ok((run, false)),
        Creation::Mismatch => Err(ApiError::new(
            ErrorKind::InvalidRequest,
            "this Idempotency-Key started a run with another input",
        )),
    }
}

struct AgentName {
    namespace: String,
    name: String,
}

impl AgentName {
    fn of(agent: &LiveAgent) -> Self {
        Self {
            namespace: agent.entry.namespace.clone(),
            name: agent.entry.name.clone(),
        }
    }
}

/// Cancels a run unless it has ended.
pub(super) async fn stop(app: &App, id: RunId) -> Result<RunRecord, ApiError> {
    let ended = app.services.store.cancel(id.clone()).await?;
    if !ended.events.is_empty() {
        app.services.metrics.run_ended(ended.run.status);
        app.dispatcher.stop(&id);
        app.services.hub.publish_stored(&id, ended.events);
    }
    Ok(ended.run)
}
