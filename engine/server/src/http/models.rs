//! `GET /v1/models`, and what tells one engine's answers from another's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use protocol::openai::{Model, ModelList};
use sha2::{Digest, Sha256};

use crate::state::State;

use super::fault::Fault;

const OWNER: &str = "quarterdeck";

/// All names of the model.
pub(super) async fn list(Extract(state): Extract<Arc<State>>) -> Json<ModelList> {
    Json(ModelList::new(all(&state)))
}

/// One name of the model.
pub(super) async fn one(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
) -> Result<Json<Model>, Fault> {
    let found = all(&state).into_iter().find(|model| model.id == name);
    found.map(Json).ok_or_else(|| Fault::unknown_model(&name))
}

fn all(state: &State) -> Vec<Model> {
    let root = state.names.first().cloned();
    let engine = state.engine();
    let length = match (&engine, state.encoder()) {
        (Some(engine), _) => Some(engine.context_length as u64),
        (None, Some(encoder)) => Some(encoder.length_max as u64),
        (None, None) => None,
    };
    let named = |name: &String| Model {
        root: root.clone(),
        max_model_len: length,
        ..Model::new(name, state.created, OWNER)
    };
    let adapters = engine
        .as_ref()
        .map_or_else(Vec::new, |engine| engine.adapters.list());
    let adapted = adapters.into_iter().map(|adapter| Model {
        root: Some(adapter.path.display().to_string()),
        parent: root.clone(),
        max_model_len: length,
        ..Model::new(adapter.name, state.created, OWNER)
    });
    state.names.iter().map(named).chain(adapted).collect()
}

/// What makes the answers: the program's version and the model.
pub(super) fn fingerprint(state: &State) -> String {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(state.names.first().map_or("", String::as_str));
    if let Some(facts) = state.report().facts {
        hash.update(&facts.architecture);
        hash.update(facts.parameters.to_le_bytes());
        hash.update(facts.weight_bytes.to_le_bytes());
    }
    let digits = hash.finalize()[..5]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    format!("fp_{digits}")
}
