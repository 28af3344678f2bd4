//! Writes a rendered template to a channel.

use serde_json::Value;

use super::{Outcome, StepContext};
use crate::{definition::TemplateName, failure::Failure};

pub(super) fn run(
    context: StepContext<'_>,
    template: &TemplateName,
    to: &str,
) -> Result<Outcome, Failure> {
    Ok(Outcome::write(to, Value::String(context.render(template)?)))
}
