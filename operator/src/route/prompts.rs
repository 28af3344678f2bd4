//! A Route's prompts: the templates that its ConfigMaps hold.

use std::collections::BTreeSet;

use crds::{RouteSpec, condition::Reason, names::PROMPTS_LABEL, route};
use protocol::snapshot::{PROMPT_BYTES_MAX, PromptMessage, PromptTemplate, Prompts};

use super::dereference::World;

/// The ConfigMaps that a Route names.
pub(super) fn config_map_names(spec: &RouteSpec) -> BTreeSet<String> {
    let templates = spec.prompts.iter().flat_map(|prompts| &prompts.templates);
    let names = templates.map(|template| template.config_map_ref.name.clone());
    names.collect()
}

/// The prompts; templates that cannot be used are noted and left out.
pub(super) fn prompts(
    wanted: Option<&route::Prompts>,
    world: &World,
    unresolved: &mut Vec<(Reason, String)>,
) -> Option<Box<Prompts>> {
    let wanted = wanted?;
    let mut templates = Vec::new();
    for (index, template) in wanted.templates.iter().enumerate() {
        match messages(index, template, world) {
            Ok(messages) => templates.push(PromptTemplate {
                name: template.name.clone(),
                messages,
            }),
            Err(fault) => unresolved.push(fault),
        }
    }
    Some(Box::new(Prompts {
        default: wanted.default.clone(),
        templates,
    }))
}

fn messages(
    index: usize,
    template: &route::PromptTemplate,
    world: &World,
) -> Result<Vec<PromptMessage>, (Reason, String)> {
    let path = format!("spec.prompts.templates[{index}].configMapRef");
    let (name, key) = (&template.config_map_ref.name, &template.config_map_ref.key);
    let Some(data) = world.config_maps.get(name).and_then(Option::as_ref) else {
        let message = format!(
            "{path} names the ConfigMap `{name}`, which does not exist in this namespace or lacks the label {PROMPTS_LABEL}"
        );
        return Err((Reason::RefNotFound, message));
    };
    let Some(text) = data.get(key) else {
        let message = format!("{path} names the key `{key}`, which the ConfigMap `{name}` lacks");
        return Err((Reason::RefNotFound, message));
    };
    let broken = |why: String| {
        let message = format!("{path} names the key `{key}` of the ConfigMap `{name}`, {why}");
        (Reason::Invalid, message)
    };
    if PROMPT_BYTES_MAX < text.len() {
        let why = format!("which is longer than {PROMPT_BYTES_MAX} bytes");
        return Err(broken(why));
    }
    let messages = PromptMessage::read(text).map_err(|error| {
        broken(format!(
            "which is no list of messages with role and content: {error}"
        ))
    })?;
    match messages.is_empty() {
        true => Err(broken("which is empty".to_owned())),
        false => Ok(messages),
    }
}
