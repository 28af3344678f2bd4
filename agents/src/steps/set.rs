//! Writes values to channels; all expressions see the state before the step.

use super::{Outcome, StepContext};
use crate::{definition::Expression, failure::Failure};

pub(super) fn run(
    context: StepContext<'_>,
    values: &[(String, Expression)],
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for (channel, expression) in values {
        let value = expression
            .evaluate(context.scope())
            .map_err(|error| Failure::permanent(error.to_string()))?;
        outcome.writes.insert(channel.clone(), value);
    }
    Ok(outcome)
}
