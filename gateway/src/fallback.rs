//! Fallbacks: on which failures a route's next targets, or another route's model, take over. Pure.

use protocol::routing::{FailureClass, Fallback};

/// A set of classes of failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Classes(u8);

impl Classes {
    fn of(classes: &[FailureClass]) -> Self {
        Self(classes.iter().fold(0, |bits, class| bits | bit(*class)))
    }

    const fn holds(self, class: FailureClass) -> bool {
        self.0 & bit(class) != 0
    }
}

const fn bit(class: FailureClass) -> u8 {
    1 << class as u8
}

/// What takes over when a route's target gives no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fallbacks {
    next: Classes,
    models: Vec<(Classes, String)>,
}

impl Default for Fallbacks {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Fallbacks {
    /// The classes on which the next target is tried, if a route does not say.
    const NEXT: [FailureClass; 3] = [
        FailureClass::Error,
        FailureClass::Timeout,
        FailureClass::RateLimit,
    ];

    /// The fallbacks of a route.
    pub(crate) fn new(fallbacks: &[Fallback]) -> Self {
        let mut next = fallbacks
            .iter()
            .filter(|fallback| fallback.model.is_none())
            .peekable();
        let has_next = next.peek().is_some();
        let said = next.flat_map(|fallback| fallback.on.iter().copied());
        let said: Vec<FailureClass> = said.collect();
        let models = fallbacks.iter().filter_map(|fallback| {
            let model = fallback.model.clone()?;
            Some((Classes::of(&fallback.on), model))
        });
        Self {
            next: Classes::of(if has_next { &said } else { &Self::NEXT }),
            models: models.collect(),
        }
    }

    /// Whether another try in the same route follows on a failure of this class.
    pub(crate) const fn tries_next(&self, class: FailureClass) -> bool {
        self.next.holds(class)
    }

    /// The models that are asked on a failure of this class, in their order.
    pub(crate) fn models(&self, class: FailureClass) -> impl Iterator<Item = &str> {
        let models = self.models.iter();
        models.filter_map(move |(on, model)| on.holds(class).then_some(model.as_str()))
    }
}

/// The class's name in metrics and logs.
pub(crate) const fn name(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Error => "error",
        FailureClass::Timeout => "timeout",
        FailureClass::RateLimit => "rate_limit",
        FailureClass::ContextWindow => "context_window",
        FailureClass::ContentPolicy => "content_policy",
        FailureClass::ColdStart => "cold_start",
    }
}

#[cfg(test)]
mod tests {
    use protocol::routing::{
        FailureClass::{self, ColdStart, ContentPolicy, ContextWindow, Error, RateLimit, Timeout},
        Fallback,
    };

    use super::Fallbacks;

    #[track_caller]
    fn check(
        rules: &[(&[FailureClass], Option<&str>)],
        class: FailureClass,
        next: bool,
        models: &[&str],
    ) {
        let rules: Vec<Fallback> = rules
            .iter()
            .map(|(on, model)| Fallback {
                on: on.to_vec(),
                model: model.map(str::to_owned),
            })
            .collect();
        let fallbacks = Fallbacks::new(&rules);
        assert_eq!(fallbacks.tries_next(class), next, "{class:?}");
        assert_eq!(fallbacks.models(class).collect::<Vec<_>>(), models);
    }

    #[test]
    fn each_class_goes_where_the_route_says() {
        for class in [Error, Timeout, RateLimit] {
            check(&[], class, true, &[]);
        }
        for class in [ContextWindow, ContentPolicy, ColdStart] {
            check(&[], class, false, &[]);
        }
        let big: (&[FailureClass], _) = (&[ContextWindow], Some("big"));
        check(&[big], ContextWindow, false, &["big"]);
        check(&[big], Error, true, &[]);
        let next: (&[FailureClass], _) = (&[ContextWindow, Timeout], None);
        check(&[next, big], ContextWindow, true, &["big"]);
        check(&[next, big], Error, false, &[]);
        let spare: (&[FailureClass], _) = (&[Error, ContextWindow], Some("spare"));
        check(&[spare, big], ContextWindow, false, &["spare", "big"]);
        check(&[(&[], None)], Error, false, &[]);
    }
}
