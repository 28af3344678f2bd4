//! Cells of services, endpoints, ingresses and policies.

use serde_json::{Value, json};

use super::cells::{joined, labels, list, number, selector, text, text_or};

pub(super) fn service_type(service: &Value, _now: &str) -> Value {
    json!(text(service, "/spec/type"))
}

pub(super) fn cluster_ip(service: &Value, _now: &str) -> Value {
    json!(text_or(service, "/spec/clusterIP", "<none>"))
}

fn balancer_addresses(object: &Value) -> Vec<&str> {
    let ingress = list(object, "/status/loadBalancer/ingress");
    ingress
        .iter()
        .map(|one| text_or(one, "/ip", text(one, "/hostname")))
        .filter(|address| !address.is_empty())
        .collect()
}

pub(super) fn external_ip(service: &Value, _now: &str) -> Value {
    let own = || {
        list(service, "/spec/externalIPs")
            .iter()
            .filter_map(Value::as_str)
    };
    match text(service, "/spec/type") {
        "ExternalName" => json!(text(service, "/spec/externalName")),
        "LoadBalancer" => {
            let mut addresses = balancer_addresses(service);
            addresses.extend(own());
            if addresses.is_empty() {
                json!("<pending>")
            } else {
                json!(addresses.join(","))
            }
        }
        _ => joined(own()),
    }
}

pub(super) fn service_ports(service: &Value, _now: &str) -> Value {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let (number, node) = (number(port, "/port"), number(port, "/nodePort"));
            let protocol = text_or(port, "/protocol", "TCP");
            if node > 0 {
                format!("{number}:{node}/{protocol}")
            } else {
                format!("{number}/{protocol}")
            }
        })
        .collect();
    joined(ports.iter().map(String::as_str))
}

pub(super) fn service_selector(service: &Value, _now: &str) -> Value {
    json!(labels(service.pointer("/spec/selector")))
}

pub(super) fn endpoints(endpoints: &Value, _now: &str) -> Value {
    let mut out = Vec::new();
    for subset in list(endpoints, "/subsets") {
        for address in list(subset, "/addresses") {
            let ports = list(subset, "/ports");
            if ports.is_empty() {
                out.push(text(address, "/ip").to_owned());
            }
            out.extend(
                ports
                    .iter()
                    .map(|port| format!("{}:{}", text(address, "/ip"), number(port, "/port"))),
            );
        }
    }
    shortened(&out)
}

/// The first few, and how many there are beside.
fn shortened(texts: &[String]) -> Value {
    const SHOWN_MAX: usize = 3;
    if texts.is_empty() {
        return json!("<none>");
    }
    let shown = texts
        .iter()
        .take(SHOWN_MAX)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(",");
    match texts.len().saturating_sub(SHOWN_MAX) {
        0 => json!(shown),
        more => json!(format!("{shown} + {more} more...")),
    }
}

pub(super) fn address_type(slice: &Value, _now: &str) -> Value {
    json!(text(slice, "/addressType"))
}

pub(super) fn slice_ports(slice: &Value, _now: &str) -> Value {
    let ports: Vec<String> = list(slice, "/ports")
        .iter()
        .map(|port| number(port, "/port").to_string())
        .collect();
    if ports.is_empty() {
        json!("<unset>")
    } else {
        shortened(&ports)
    }
}

pub(super) fn slice_endpoints(slice: &Value, _now: &str) -> Value {
    let endpoints = list(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"));
    let addresses: Vec<String> = endpoints
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if addresses.is_empty() {
        json!("<unset>")
    } else {
        shortened(&addresses)
    }
}

pub(super) fn ingress_class(ingress: &Value, _now: &str) -> Value {
    json!(text_or(ingress, "/spec/ingressClassName", "<none>"))
}

pub(super) fn ingress_hosts(ingress: &Value, _now: &str) -> Value {
    let rules = list(ingress, "/spec/rules").iter();
    let hosts: Vec<&str> = rules
        .map(|rule| text(rule, "/host"))
        .filter(|host| !host.is_empty())
        .collect();
    json!(if hosts.is_empty() {
        "*".to_owned()
    } else {
        hosts.join(",")
    })
}

pub(super) fn ingress_address(ingress: &Value, _now: &str) -> Value {
    json!(balancer_addresses(ingress).join(","))
}

pub(super) fn ingress_ports(ingress: &Value, _now: &str) -> Value {
    json!(if list(ingress, "/spec/tls").is_empty() {
        "80"
    } else {
        "80, 443"
    })
}

pub(super) fn policy_selector(policy: &Value, _now: &str) -> Value {
    selector(policy.pointer("/spec/podSelector"))
}
