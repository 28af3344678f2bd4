//! What operators do to a running engine: sleep, wake, forget, load adapters.
//!
//! Whoever may ask for answers may not do this: the routes answer 403 unless the engine was started with `--admin`,
//! and then whoever reaches the port may use them, so that the port must not be open to users.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, Request, State as Extract};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine_models::SleepLevel;
use protocol::openai::ErrorKind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::state::{AdapterFault, ControlError, Engine, State};

use super::decode::{Object, request};
use super::fault::Fault;
use super::submit::not_served;

/// Lets requests through if the engine was started for it.
pub(super) async fn guard(
    Extract(state): Extract<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    if state.has_admin {
        return next.run(request).await;
    }
    let message = "Administrative routes are not served: start the engine with `--admin`.";
    Fault::new(ErrorKind::PermissionDenied, message).into_response()
}

#[derive(Debug, Deserialize)]
pub(super) struct SleepQuery {
    level: Option<u8>,
}

/// Gives memory back.
pub(super) async fn sleep(
    Extract(state): Extract<Arc<State>>,
    Query(query): Query<SleepQuery>,
) -> Result<(), Fault> {
    let level = match query.level {
        None | Some(1) => SleepLevel::Light,
        Some(2) => SleepLevel::Deep,
        Some(_) => return Err(Fault::parameter("level", "`level` is 1 or 2.")),
    };
    Ok(engine(&state)?.sleep(level).await?)
}

/// Takes the memory again.
pub(super) async fn wake(Extract(state): Extract<Arc<State>>) -> Result<(), Fault> {
    Ok(engine(&state)?.wake().await?)
}

/// Forgets the content of the prefix cache.
pub(super) async fn reset_prefix_cache(Extract(state): Extract<Arc<State>>) -> Result<(), Fault> {
    Ok(engine(&state)?.reset_prefix_cache().await?)
}

/// Whether the engine must be woken before it answers.
pub(super) async fn is_sleeping(Extract(state): Extract<Arc<State>>) -> Result<Json<Value>, Fault> {
    let is_sleeping = engine(&state)?.is_sleeping();
    Ok(Json(json!({"is_sleeping": is_sleeping})))
}

#[derive(Debug, Deserialize)]
struct LoadBody {
    lora_name: String,
    lora_path: String,
}

#[derive(Debug, Deserialize)]
struct UnloadBody {
    lora_name: String,
}

/// Loads an adapter out of a folder of this machine.
pub(super) async fn load_adapter(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<String, Fault> {
    let required = [("lora_name", json!("")), ("lora_path", json!(""))];
    let LoadBody {
        lora_name: name,
        lora_path: path,
    } = request(object, &required)?;
    if name.is_empty() || name.contains(':') {
        let message = "`lora_name` is a text without colons.";
        return Err(Fault::parameter("lora_name", message));
    }
    engine(&state)?
        .load_adapter(&name, Path::new(&path))
        .await?;
    Ok(format!(
        "Success: LoRA adapter '{name}' added successfully."
    ))
}

/// Forgets an adapter.
pub(super) async fn unload_adapter(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<String, Fault> {
    let UnloadBody { lora_name: name } = request(object, &[("lora_name", json!(""))])?;
    engine(&state)?.unload_adapter(&name).await?;
    Ok(format!(
        "Success: LoRA adapter '{name}' removed successfully."
    ))
}

fn engine(state: &State) -> Result<Arc<Engine>, Fault> {
    state.engine().ok_or_else(|| not_served(state))
}

impl From<ControlError> for Fault {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Closed => Self::stopped(),
            ControlError::Failed(message) => Self::internal(message),
        }
    }
}

impl From<AdapterFault> for Fault {
    fn from(fault: AdapterFault) -> Self {
        match fault {
            AdapterFault::UnknownName(_) => Self::new(ErrorKind::ModelNotFound, sentence(&fault)),
            AdapterFault::NameTaken(_) | AdapterFault::TooMany { .. } => {
                Self::parameter("lora_name", sentence(&fault))
            }
            AdapterFault::Invalid(_) => Self::parameter("lora_path", sentence(&fault)),
            AdapterFault::Control(error) => error.into(),
            AdapterFault::Reading => Self::internal(sentence(&fault)),
        }
    }
}

/// An error with its causes, as a sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.push('.');
    text
}
