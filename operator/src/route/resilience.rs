//! What a Route does when a backend gives no answer, as the gateway takes it.

use crds::route;
use protocol::routing::{FailureClass, Fallback};

pub(super) fn fallbacks(fallbacks: &[route::Fallback]) -> Vec<Fallback> {
    let fallbacks = fallbacks.iter().map(|fallback| Fallback {
        on: fallback.on.iter().copied().map(class).collect(),
        model: fallback.model.clone(),
    });
    fallbacks.collect()
}

fn class(class: route::FailureClass) -> FailureClass {
    match class {
        route::FailureClass::Error => FailureClass::Error,
        route::FailureClass::Timeout => FailureClass::Timeout,
        route::FailureClass::RateLimit => FailureClass::RateLimit,
        route::FailureClass::ContextWindow => FailureClass::ContextWindow,
        route::FailureClass::ContentPolicy => FailureClass::ContentPolicy,
        route::FailureClass::ColdStart => FailureClass::ColdStart,
    }
}
