//! Services: defaults, and addresses that stay with the object.

use serde_json::{Value, json};

use super::{Addresses, items, put, set};
use crate::status::ApiError;

/// Fills the defaults of a service.
pub(super) fn default(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    set(Some(spec), "type", || json!("ClusterIP"));
    set(Some(spec), "sessionAffinity", || json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        set(
            Some(spec),
            "sessionAffinityConfig",
            || json!({"clientIP": {"timeoutSeconds": 10800}}),
        );
    }
    for port in items(spec.get_mut("ports")) {
        set(Some(port), "protocol", || json!("TCP"));
        let same = port["port"].clone();
        if port
            .get("targetPort")
            .is_none_or(|target| target.is_null() || *target == 0 || *target == "")
        {
            port["targetPort"] = same;
        }
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind == "ExternalName" {
        return;
    }
    set(Some(spec), "internalTrafficPolicy", || json!("Cluster"));
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set(Some(spec), "externalTrafficPolicy", || json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        set(Some(spec), "allocateLoadBalancerNodePorts", || json!(true));
    }
}

/// An update that names no address keeps the one there is.
pub(super) fn keep_addresses(old: &Value, object: &mut Value) {
    if object["spec"]["type"] == "ExternalName" {
        return;
    }
    for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let missing = object["spec"]
            .get(name)
            .is_none_or(|value| value.is_null() || *value == "");
        if missing {
            let kept = old["spec"].get(name).cloned();
            put(&mut object["spec"], name, kept);
        }
    }
    let ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let same_type = old["spec"]["type"] == object["spec"]["type"];
    if !matches!(
        object["spec"]["type"].as_str(),
        Some("NodePort" | "LoadBalancer")
    ) {
        for port in items(object["spec"].get_mut("ports")) {
            // A node port belongs to the types that have one.
            if !same_type {
                super::remove(port, "nodePort");
            }
        }
        return;
    }
    for port in items(object["spec"].get_mut("ports")) {
        let before = ports
            .iter()
            .find(|one| one["port"] == port["port"] && one["protocol"] == port["protocol"]);
        if let Some(node_port) = before.and_then(|one| one.get("nodePort")) {
            set(Some(port), "nodePort", || node_port.clone());
        }
    }
}

/// Gives a service the addresses that it lacks.
pub(super) fn allocate(addresses: &Addresses, object: &mut Value) -> Result<(), ApiError> {
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return Ok(());
    };
    if spec["type"] == "ExternalName" {
        for name in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            super::remove(spec, name);
        }
        return Ok(());
    }
    set(Some(spec), "ipFamilies", || json!(["IPv4"]));
    set(Some(spec), "ipFamilyPolicy", || json!("SingleStack"));
    let wanted = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
    let address = match wanted.as_str() {
        "None" => wanted,
        "" => addresses
            .next_address()
            .ok_or_else(|| ApiError::internal("all cluster addresses are taken"))?,
        _ => addresses.take_address(&wanted, &name)?,
    };
    spec["clusterIP"] = json!(address);
    spec["clusterIPs"] = json!([address]);
    allocate_node_ports(addresses, spec, &name)
}

fn allocate_node_ports(
    addresses: &Addresses,
    spec: &mut Value,
    name: &str,
) -> Result<(), ApiError> {
    let with_ports = match spec["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    };
    for port in items(spec.get_mut("ports")).filter(|_| with_ports) {
        match port
            .get("nodePort")
            .and_then(Value::as_u64)
            .filter(|port| *port > 0)
        {
            Some(wanted) => addresses.take_port(wanted, name)?,
            None => {
                let free = addresses
                    .next_port()
                    .ok_or_else(|| ApiError::internal("all node ports are taken"))?;
                port["nodePort"] = json!(free);
            }
        }
    }
    Ok(())
}

/// Frees what a service had and `kept` has not.
pub(crate) fn release_addresses(addresses: &Addresses, old: &Value, kept: Option<&Value>) {
    let address = |object: &Value| object["spec"]["clusterIP"].as_str().map(str::to_owned);
    let ports = |object: &Value| -> Vec<u64> {
        object["spec"]["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|port| port["nodePort"].as_u64())
            .collect()
    };
    let kept_address = kept.and_then(address);
    if let Some(gone) = address(old).filter(|one| kept_address.as_ref() != Some(one)) {
        addresses.free_address(&gone);
    }
    let kept_ports = kept.map(ports).unwrap_or_default();
    for gone in ports(old)
        .into_iter()
        .filter(|port| !kept_ports.contains(port))
    {
        addresses.free_port(gone);
    }
}
