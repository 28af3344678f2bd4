//! What is left of budgets, for those who ask without spending anything.

use jiff::Timestamp;
use protocol::snapshot::Mode;

use super::{Resource, Rule};
use crate::cost::Cost;

/// A budget, as somebody from outside sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BudgetLeft {
    /// How much there is in a window.
    pub(crate) most: Cost,
    /// How much of it is not spent in the window of now.
    pub(crate) left: Cost,
}

/// The tightest of the budgets among somebody's rules; those for some models only, and those that only watch, do not
/// count.
pub(crate) fn budget_left(rules: &[Rule], now: Timestamp) -> Option<BudgetLeft> {
    let budgets = rules.iter().filter(|rule| {
        rule.resource == Resource::Cost && rule.mode == Mode::Enforce && !rule.is_for_some()
    });
    let left = budgets.map(|rule| {
        let most = rule.capacity.limit();
        let meter = rule.meters.peek("");
        let spent = meter.map_or(0, |meter| meter.spent(rule.capacity, now));
        BudgetLeft {
            most: Cost::from_nanos(most),
            left: Cost::from_nanos(most.saturating_sub(spent)),
        }
    });
    left.min_by_key(|budget| budget.left.nanos())
}
