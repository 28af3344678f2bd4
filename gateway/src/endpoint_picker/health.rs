//! Health checks by gRPC: whether the process lives, and whether it can pick.

use super::message::{HealthCheckResponse, ServingStatus};

/// The method that is checked by.
pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Whether the process answers.
const LIVENESS: &str = "liveness";

/// How a service stands; `None` if it is not known. The whole, readiness and the picker are ready alike.
pub(super) fn check(service: &str, is_ready: bool) -> Option<HealthCheckResponse> {
    let status = match service {
        LIVENESS => ServingStatus::Serving,
        "" | "readiness" | super::listen::SERVICE if is_ready => ServingStatus::Serving,
        "" | "readiness" | super::listen::SERVICE => ServingStatus::NotServing,
        _ => return None,
    };
    Some(HealthCheckResponse {
        status: status.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::{ServingStatus, check};

    #[test]
    fn all_but_liveness_waits_for_something_to_route_by() {
        let check = |service: &str, is_ready, expected: Option<ServingStatus>| {
            let status = check(service, is_ready).map(|answer| answer.status());
            assert_eq!(status, expected, "{service}");
        };
        let (yes, no) = (ServingStatus::Serving, ServingStatus::NotServing);
        check("liveness", false, Some(yes));
        for service in [
            "",
            "readiness",
            "envoy.service.ext_proc.v3.ExternalProcessor",
        ] {
            check(service, true, Some(yes));
            check(service, false, Some(no));
        }
        check("other", true, None);
    }
}
