//! Fair: who is next among those who wait: by priority, then in turns of tenants, each as many tokens. Pure.
//!
//! Deficit round robin: in each round every tenant may spend a quantum more, and what it cannot spend yet it keeps while
//! it waits. So a tenant with few small requests is not behind another one's many large ones.

use std::collections::VecDeque;

/// Tokens that a tenant may spend more in each round.
const QUANTUM: u64 = 1024;

/// How urgent a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Before all others.
    High,
    /// As most are.
    #[default]
    Normal,
    /// After all others.
    Low,
}

impl Priority {
    /// The priority that a header says.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "high" => Some(Self::High),
            "normal" => Some(Self::Normal),
            "low" => Some(Self::Low),
            _ => None,
        }
    }
}

/// Those who wait.
#[derive(Debug)]
pub(super) struct Fair<T> {
    bands: [VecDeque<Tenant<T>>; 3],
    length: usize,
}

#[derive(Debug)]
struct Tenant<T> {
    name: String,
    deficit: u64,
    waiting: VecDeque<Waiter<T>>,
}

#[derive(Debug)]
struct Waiter<T> {
    id: u64,
    cost: u64,
    item: T,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            bands: [const { VecDeque::new() }; 3],
            length: 0,
        }
    }
}

impl<T> Fair<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds one who needs so many tokens.
    pub(super) fn push(&mut self, priority: Priority, tenant: &str, id: u64, cost: u64, item: T) {
        let band = &mut self.bands[priority as usize];
        let waiter = Waiter { id, cost, item };
        self.length += 1;
        if let Some(known) = band.iter_mut().find(|known| known.name == tenant) {
            known.waiting.push_back(waiter);
            return;
        }
        band.push_back(Tenant {
            name: tenant.to_owned(),
            deficit: 0,
            waiting: VecDeque::from([waiter]),
        });
    }

    /// Takes out the next one.
    pub(super) fn pop(&mut self) -> Option<T> {
        let band = self.bands.iter_mut().find(|band| !band.is_empty())?;
        let item = next(band)?;
        self.length -= 1;
        Some(item)
    }

    /// Takes out one who does not wait any more.
    pub(super) fn remove(&mut self, id: u64) {
        for band in &mut self.bands {
            for tenant in band.iter_mut() {
                let before = tenant.waiting.len();
                tenant.waiting.retain(|waiter| waiter.id != id);
                self.length -= before - tenant.waiting.len();
            }
            band.retain(|tenant| !tenant.waiting.is_empty());
        }
    }
}

/// The next one of a band.
fn next<T>(band: &mut VecDeque<Tenant<T>>) -> Option<T> {
    let cost_of = |tenant: &Tenant<T>| tenant.waiting.front().map_or(0, |waiter| waiter.cost);
    let rounds_of = |tenant: &Tenant<T>| {
        let missing = cost_of(tenant).saturating_sub(tenant.deficit);
        missing.div_ceil(QUANTUM)
    };
    // As many rounds at once as it takes until somebody can spend; no walk for a request of a million tokens.
    let rounds = band.iter().map(rounds_of).min()?;
    for tenant in band.iter_mut() {
        tenant.deficit = tenant
            .deficit
            .saturating_add(rounds.saturating_mul(QUANTUM));
    }
    let place = band
        .iter()
        .position(|tenant| cost_of(tenant) <= tenant.deficit)?;
    let tenant = band.get_mut(place)?;
    let waiter = tenant.waiting.pop_front()?;
    tenant.deficit -= waiter.cost;
    if let Some(tenant) = band.remove(place)
        && !tenant.waiting.is_empty()
    {
        // Its turn is over when it cannot pay for its next one; the others come first then.
        if cost_of(&tenant) <= tenant.deficit {
            band.insert(place, tenant);
        } else {
            band.push_back(tenant);
        }
    }
    Some(waiter.item)
}

#[cfg(test)]
mod tests {
    use super::{Fair, Priority};

    /// Who waits, as tenant and cost in order of coming; who is next, by tenant.
    #[track_caller]
    fn check(waiting: &[(&str, u64)], expected: &str) {
        let mut fair = Fair::default();
        for (id, (tenant, cost)) in (0..).zip(waiting) {
            fair.push(Priority::Normal, tenant, id, *cost, *tenant);
        }
        assert_eq!(fair.len(), waiting.len());
        let order: Vec<&str> = std::iter::from_fn(|| fair.pop()).collect();
        assert_eq!(order.concat(), expected, "{waiting:?}");
        assert_eq!(fair.len(), 0);
    }

    #[test]
    fn tenants_take_turns_by_tokens() {
        check(
            &[("a", 1024), ("a", 1024), ("a", 1024), ("b", 1024)],
            "abaa",
        );
        check(
            &[
                ("a", 4096),
                ("a", 4096),
                ("b", 1024),
                ("b", 1024),
                ("b", 1024),
            ],
            "bbbaa",
        );
        // One of 512 tokens costs half a turn.
        check(&[("a", 512), ("a", 512), ("a", 512), ("b", 1024)], "aaba");
        check(&[("a", 1_000_000), ("b", 900_000)], "ba");
        check(&[("a", 0), ("b", 0)], "ab");
        check(&[], "");
    }

    #[test]
    fn the_urgent_come_first_and_who_left_does_not_come() {
        let mut fair = Fair::default();
        for (id, priority) in (0..).zip([Priority::Low, Priority::Normal, Priority::High]) {
            fair.push(priority, "a", id, 10, priority);
        }
        fair.push(Priority::High, "b", 7, 10, Priority::Low);
        fair.remove(7);
        fair.remove(8);
        assert_eq!(fair.len(), 3);
        let order: Vec<Priority> = std::iter::from_fn(|| fair.pop()).collect();
        assert_eq!(order, [Priority::High, Priority::Normal, Priority::Low]);
        assert_eq!(Priority::parse("high"), Some(Priority::High));
        assert_eq!(Priority::parse("urgent"), None);
    }
}
