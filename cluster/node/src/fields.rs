//! The downward API: what a container may read about its own Pod.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::quantity::milli;

/// What the node knows of a Pod beside its object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodFacts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) pod_ip: Ipv4Addr,
    pub(crate) host_ip: IpAddr,
}

/// The value of a `fieldRef` path; `None` where the path is not supported.
pub(crate) fn field_value(facts: PodFacts<'_>, path: &str) -> Option<String> {
    let metadata = &facts.pod.metadata;
    let spec = facts.pod.spec.as_ref();
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => Some(map_lines(metadata.labels.as_ref())),
        "metadata.annotations" => Some(map_lines(metadata.annotations.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" | "status.podIPs" => Some(facts.pod_ip.to_string()),
        "status.hostIP" | "status.hostIPs" => Some(facts.host_ip.to_string()),
        _ => {
            let (map, key) = subscript(path)?;
            let map = match map {
                "metadata.labels" => metadata.labels.as_ref(),
                "metadata.annotations" => metadata.annotations.as_ref(),
                _ => return None,
            };
            map.and_then(|map| map.get(key)).cloned()
        }
    };
    Some(value.unwrap_or_default())
}

/// The value of a `resourceFieldRef`; an absent limit reads as the node's `capacity`.
pub(crate) fn resource_value(
    container: &Container,
    selector: &ResourceFieldSelector,
    capacity: &BTreeMap<String, String>,
) -> Option<String> {
    let (kind, resource) = selector.resource.split_once('.')?;
    let resources = container.resources.clone().unwrap_or_default();
    let (limits, requests) = (
        resources.limits.unwrap_or_default(),
        resources.requests.unwrap_or_default(),
    );
    let quantity = match kind {
        "limits" => limits.get(resource).map(|quantity| quantity.0.clone()),
        "requests" => requests
            .get(resource)
            .or_else(|| limits.get(resource))
            .map(|quantity| quantity.0.clone()),
        _ => return None,
    };
    let value = milli(
        &quantity
            .or_else(|| capacity.get(resource).cloned())
            .unwrap_or_else(|| "0".to_owned()),
    )?;
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|divisor| milli(&divisor.0))
        .filter(|divisor| *divisor > 0);
    let divisor = divisor.unwrap_or(1000);
    Some((value / divisor + i128::from(value % divisor > 0)).to_string())
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    Some((map, rest.strip_suffix(']')?.trim_matches(['\'', '"'])))
}

fn map_lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}
