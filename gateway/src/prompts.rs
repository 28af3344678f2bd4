//! Prompts: messages of a route's templates, put in front of requests by splices that leave every other byte.
//!
//! A request names a template by `prompt_id` and gives it `prompt_variables`; one that names none gets the route's default.

mod placing;
mod template;

use std::collections::{BTreeMap, HashMap};

use protocol::{openai::ErrorKind, snapshot};
use serde_json::Value;

use self::{
    placing::{ID, Placing, VARIABLES},
    template::Template,
};
use crate::{call::Operation, decode::Decoded, fault::Fault};

/// What a route puts in front of requests.
#[derive(Debug)]
pub(crate) struct Prompts {
    default: Option<String>,
    templates: HashMap<String, Template>,
}

impl Prompts {
    /// Those of a snapshot.
    pub(crate) fn compile(prompts: Option<&snapshot::Prompts>) -> Option<std::sync::Arc<Self>> {
        let prompts = prompts?;
        let templates = prompts.templates.iter();
        let templates = templates.map(|one| (one.name.clone(), Template::compile(&one.messages)));
        Some(std::sync::Arc::new(Self {
            default: prompts.default.clone(),
            templates: templates.collect(),
        }))
    }

    /// Puts the messages in that the request wants, or that all get.
    ///
    /// # Errors
    /// The request names a template that is not there, or leaves out a variable of it.
    pub(crate) fn put_in(&self, decoded: &mut Decoded) -> Result<(), Fault> {
        if !matches!(
            decoded.operation,
            Operation::Chat | Operation::Message | Operation::Response
        ) {
            return Ok(());
        }
        let placing = Placing::find(decoded)?;
        let asked: Option<String> = placing.read(ID)?;
        let is_asked = asked.is_some();
        let Some(name) = asked.or_else(|| self.default.clone()) else {
            return Ok(());
        };
        let template = match self.templates.get(&name) {
            Some(template) => template,
            None if is_asked => {
                let message = format!("This model has no prompt `{name}`.");
                return Err(Fault::of(ErrorKind::InvalidRequest, ID, message));
            }
            None => {
                // What all requests are to begin with is not left out in silence.
                let message = "This model's default prompt is not there. Try again later.";
                return Err(Fault::new(ErrorKind::Unavailable, message));
            }
        };
        let variables: Option<BTreeMap<String, Value>> = placing.read(VARIABLES)?;
        let messages = template.fill(&variables.unwrap_or_default())?;
        *decoded = decoded.with_body(placing.place(&messages)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
