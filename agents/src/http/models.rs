//! `GET /v1/models`: the agents that a key may call, as models.

use axum::{
    Json,
    extract::{Path, State},
};
use protocol::openai::{ErrorKind, Model, ModelList};

use super::{App, auth::Caller, error::ApiError};
use crate::catalog::Lookup;

/// The runtime does not know when an agent was made; OpenAI's type has no way to say so.
const CREATED: i64 = 0;

pub(super) async fn list(State(app): State<App>, Caller(account): Caller) -> Json<ModelList> {
    let catalog = &app.services.catalog;
    let mut models = Vec::new();
    for agent in catalog.callables(&account) {
        let (namespace, name) = (&agent.entry.namespace, &agent.entry.name);
        if matches!(catalog.by_model(&account, name), Lookup::Found(_)) {
            models.push(Model::new(name.clone(), CREATED, namespace.clone()));
        }
        models.push(Model::new(
            format!("{namespace}/{name}"),
            CREATED,
            namespace.clone(),
        ));
    }
    Json(ModelList::new(models))
}

pub(super) async fn read(
    State(app): State<App>,
    Caller(account): Caller,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    match app.services.catalog.by_model(&account, &id) {
        Lookup::Found(agent) => Ok(Json(Model::new(id, CREATED, agent.entry.namespace.clone()))),
        lookup => Err(no_model(&id, &lookup)),
    }
}

/// Why a model's name means no agent.
pub(super) fn no_model(id: &str, lookup: &Lookup) -> ApiError {
    let message = match lookup {
        Lookup::Ambiguous => {
            format!("several namespaces have an agent `{id}`; ask for `NAMESPACE/{id}`")
        }
        Lookup::Unknown | Lookup::Found(_) => {
            format!("there is no agent `{id}`, or this key may not call it")
        }
    };
    ApiError::new(ErrorKind::ModelNotFound, message)
}
