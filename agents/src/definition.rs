//! Definitions: what an agent does, checked and compiled once per revision.

mod check;
mod compile;
mod expression;
mod pin;
mod template;
mod uses;

pub(crate) use check::{addresses, initial};
pub(crate) use compile::{CompiledAgent, InvalidDefinition};
pub(crate) use expression::{Expression, Scope};
pub(crate) use pin::{Revision, pin};
pub(crate) use template::{TemplateName, Templates};

use serde::Serialize;

/// What templates and expressions know about the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RunFacts {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) agent: String,
}

#[cfg(test)]
mod tests;
