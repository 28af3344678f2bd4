//! The quality-of-service class of a Pod, from its requests and limits.

use k8s_openapi::api::core::v1::PodSpec;

use crate::quantity::milli;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let mut any = false;
    let mut guaranteed = true;
    for container in containers {
        let resources = container.resources.clone().unwrap_or_default();
        let (requests, limits) = (
            resources.requests.unwrap_or_default(),
            resources.limits.unwrap_or_default(),
        );
        for name in ["cpu", "memory"] {
            let limit = limits.get(name).and_then(|quantity| milli(&quantity.0));
            let request = requests
                .get(name)
                .and_then(|quantity| milli(&quantity.0))
                .or(limit);
            any |= limit.is_some_and(|value| value > 0) || request.is_some_and(|value| value > 0);
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}
