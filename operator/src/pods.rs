//! What a Pod says about itself.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

/// Waiting reasons that are part of a normal start.
const NORMAL_WAITS: [&str; 3] = ["ContainerCreating", "PodInitializing", ""];

/// A condition of the Pod.
pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// Whether the Pod takes traffic.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    !is_going(pod) && condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether the Pod is being deleted.
pub(crate) fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The Pod's address.
pub(crate) fn address(pod: &Pod) -> Option<&str> {
    pod.status
        .as_ref()?
        .pod_ip
        .as_deref()
        .filter(|address| !address.is_empty())
}

/// The Pod's phase.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Whether the Pod has ended and will not run again.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

/// What keeps the Pod from being ready, if it is more than a normal start.
pub(crate) fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if has_ended(pod) {
        let words = [status.reason.as_deref(), status.message.as_deref()];
        let why: Vec<&str> = words.into_iter().flatten().collect();
        return Some(format!(
            "the Pod has ended: {}",
            if why.is_empty() {
                phase(pod).to_owned()
            } else {
                why.join(", ")
            }
        ));
    }
    if let Some(unscheduled) =
        condition(pod, "PodScheduled").filter(|condition| condition.status == "False")
    {
        let why = unscheduled
            .message
            .clone()
            .or_else(|| unscheduled.reason.clone())
            .unwrap_or_default();
        return Some(format!("not scheduled: {why}"));
    }
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    containers.filter_map(container_trouble).next()
}

fn container_trouble(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if NORMAL_WAITS.contains(&reason) {
            return None;
        }
        let ended = container
            .last_state
            .as_ref()
            .and_then(|last| last.terminated.as_ref());
        let detail = waiting
            .message
            .clone()
            .or_else(|| Some(format!("it ended with code {}", ended?.exit_code)));
        return Some(join(&container.name, reason, detail.as_deref()));
    }
    let terminated = state
        .terminated
        .as_ref()
        .filter(|terminated| terminated.exit_code != 0)?;
    let detail = terminated
        .message
        .clone()
        .unwrap_or_else(|| format!("it ended with code {}", terminated.exit_code));
    Some(join(
        &container.name,
        terminated.reason.as_deref().unwrap_or("Error"),
        Some(&detail),
    ))
}

fn join(container: &str, reason: &str, detail: Option<&str>) -> String {
    detail.map_or_else(
        || format!("container {container}: {reason}"),
        |detail| format!("container {container}: {reason}, {detail}"),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{is_ready, trouble};

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).expect("a pod")
    }

    #[track_caller]
    fn check(status: &Value, expected: Option<&str>) {
        assert_eq!(trouble(&pod(status)).as_deref(), expected, "{status}");
    }

    #[test]
    fn trouble_is_more_than_a_normal_start() {
        let waiting = |reason: &str| json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}}]});
        check(&json!({}), None);
        check(&waiting("ContainerCreating"), None);
        check(&waiting("ErrImagePull"), Some("container c: ErrImagePull"));
        check(
            &json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]}),
            Some("not scheduled: no node"),
        );
        check(
            &json!({"phase": "Failed", "reason": "Evicted"}),
            Some("the Pod has ended: Evicted"),
        );
    }

    #[test]
    fn a_pod_that_goes_is_not_ready() {
        let mut pod = pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        assert!(is_ready(&pod));
        pod.metadata.deletion_timestamp = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
        );
        assert!(!is_ready(&pod));
    }
}
