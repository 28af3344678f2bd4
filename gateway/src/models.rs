//! `GET /v1/models`: the models that the caller may use, in the shape of the API that was called.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use jiff::Timestamp;
use protocol::{
    anthropic,
    openai::{Model, ModelList},
};

use crate::{
    authorize::Caller,
    call::Surface,
    encode::{self, Body},
    fault::Fault,
    ollama,
    table::{Pattern, Table},
};

/// Lists the models that the caller may use; a pattern with a star is no model and is left out.
///
/// # Errors
/// The caller has no valid key, and nothing is open.
pub(crate) fn list(
    table: &Table,
    caller: &Caller,
    surface: Surface,
) -> Result<Response<Body>, Fault> {
    let models = visible(table, caller);
    if let Caller::Nobody(why) = caller
        && models.is_empty()
    {
        return Err(why.fault());
    }
    let models = models.into_values();
    Ok(match surface {
        Surface::OpenAi => encode::json(StatusCode::OK, &ModelList::new(models)),
        Surface::Anthropic => {
            let list = anthropic::ModelList::new(models.map(|model| anthropic_model(&model)));
            encode::json(StatusCode::OK, &list)
        }
        Surface::Ollama => encode::json(StatusCode::OK, &ollama::tags(models)),
    })
}

fn anthropic_model(model: &Model) -> anthropic::Model {
    let created = Timestamp::from_second(model.created).unwrap_or_default();
    anthropic::Model::new(&model.id, created.to_string())
}

/// One model.
///
/// # Errors
/// The caller may not know of such a model.
pub(crate) fn get(
    table: &Table,
    caller: &Caller,
    name: &str,
    surface: Surface,
) -> Result<Response<Body>, Fault> {
    match (visible(table, caller).remove(name), caller) {
        (Some(model), _) => Ok(match surface {
            Surface::OpenAi => encode::json(StatusCode::OK, &model),
            Surface::Anthropic => encode::json(StatusCode::OK, &anthropic_model(&model)),
            Surface::Ollama => encode::json(StatusCode::OK, &ollama::show(table, caller, &model)),
        }),
        (None, Caller::Nobody(why)) => Err(why.fault()),
        (None, Caller::Key(_)) => Err(Fault::model_not_found(name)),
    }
}

fn visible(table: &Table, caller: &Caller) -> BTreeMap<String, Model> {
    let mut models = BTreeMap::new();
    for route in table.routes.iter().filter(|route| caller.may_use(route)) {
        for pattern in &route.models {
            if let Pattern::Exact(name) = pattern
                && caller.may_ask_for(name)
            {
                let model = || Model::new(name, table.created.as_second(), &route.id);
                models.entry(name.clone()).or_insert_with(model);
            }
        }
    }
    models
}
