//! What a client of Ollama's API is told of models.
//!
//! What only a model's own server knows is as that API has it for the unknown: an empty text, a zero.

use jiff::Timestamp;
use protocol::openai::Model;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{authorize::Caller, call::Operation, table::Table};

/// The list of models.
#[derive(Debug, Serialize)]
pub(crate) struct Tags {
    models: Vec<Tag>,
}

/// A model of the list.
#[derive(Debug, Serialize)]
struct Tag {
    name: String,
    model: String,
    modified_at: String,
    size: u64,
    digest: String,
    details: Details,
}

/// How a model is kept.
#[derive(Debug, Default, Serialize)]
struct Details {
    parent_model: String,
    format: String,
    family: String,
    families: Vec<String>,
    parameter_size: String,
    quantization_level: String,
}

/// One model.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    modified_at: String,
    details: Details,
    model_info: Map<String, Value>,
    capabilities: Vec<&'static str>,
}

/// The list of these models.
pub(crate) fn tags(models: impl Iterator<Item = Model>) -> Tags {
    let models = models.map(|model| Tag {
        modified_at: modified_at(&model),
        name: model.id.clone(),
        model: model.id,
        size: 0,
        digest: String::new(),
        details: Details::default(),
    });
    Tags {
        models: models.collect(),
    }
}

/// A model that the caller may use: it can do what a target of its routes has an API for.
pub(crate) fn show(table: &Table, caller: &Caller, model: &Model) -> Shown {
    let can = |operation| {
        let routes = table.answering(&model.id);
        let mut targets = routes
            .filter(|route| caller.may_use(route))
            .flat_map(|route| &route.targets);
        targets.any(|target| target.provider.answers(operation))
    };
    let known = [
        (Operation::Chat, "completion"),
        (Operation::Embedding, "embedding"),
    ];
    let capabilities = known.into_iter().filter(|(operation, _)| can(*operation));
    Shown {
        modified_at: modified_at(model),
        details: Details::default(),
        model_info: Map::new(),
        capabilities: capabilities.map(|(_, word)| word).collect(),
    }
}

fn modified_at(model: &Model) -> String {
    let created = Timestamp::from_second(model.created);
    created.unwrap_or_default().to_string()
}
