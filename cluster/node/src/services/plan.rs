//! From Services and EndpointSlices to addresses and what lies behind them. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// One address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// `NAMESPACE/NAME`.
    pub(crate) service: String,
    pub(crate) backends: Vec<SocketAddr>,
}

/// All ClusterIP addresses. The Service `default/kubernetes` leads to the API server even before it has endpoints.
pub(crate) fn routes(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    api_server: Option<SocketAddr>,
) -> BTreeMap<SocketAddr, Route> {
    let mut routes = BTreeMap::new();
    for service in services {
        let Some(ip) = cluster_ip(service) else {
            continue;
        };
        for port in tcp_ports(service) {
            let Ok(number) = u16::try_from(port.port) else {
                continue;
            };
            let mut backends = backends(service, port, slices);
            if backends.is_empty() && key(service) == "default/kubernetes" {
                backends.extend(api_server);
            }
            let route = Route {
                service: key(service),
                backends,
            };
            if let Some(local) = node_port(service, port) {
                routes.insert(local, route.clone());
            }
            routes.insert(SocketAddr::new(ip, number), route);
        }
    }
    routes
}

/// Where a port of a NodePort service is served: the node is this host, so only on its loopback.
fn node_port(service: &Service, port: &ServicePort) -> Option<SocketAddr> {
    let is_node_port = service.spec.as_ref()?.type_.as_deref() == Some("NodePort");
    let number = port.node_port.and_then(|port| u16::try_from(port).ok())?;
    is_node_port.then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, number)))
}

pub(crate) fn key(service: &Service) -> String {
    format!(
        "{}/{}",
        service.namespace().unwrap_or_default(),
        service.name_any()
    )
}

/// The Service's address; `None` for headless ones.
pub(crate) fn cluster_ip(service: &Service) -> Option<IpAddr> {
    let ip: IpAddr = service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()?;
    // Another network's address could not be served by this host.
    ip.is_loopback().then_some(ip)
}

pub(crate) fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    ports.filter(|port| {
        port.protocol
            .as_deref()
            .is_none_or(|protocol| protocol == "TCP")
    })
}

/// The slices of one Service.
pub(crate) fn slices_of<'a>(
    namespace: &'a str,
    name: &'a str,
    slices: &'a [Arc<EndpointSlice>],
) -> impl Iterator<Item = &'a EndpointSlice> {
    slices.iter().map(AsRef::as_ref).filter(move |slice| {
        slice.namespace().as_deref() == Some(namespace)
            && slice.labels().get(SERVICE_LABEL).map(String::as_str) == Some(name)
    })
}

fn backends(
    service: &Service,
    port: &ServicePort,
    slices: &[Arc<EndpointSlice>],
) -> Vec<SocketAddr> {
    let publishes_all = service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        == Some(true);
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    let mut found = Vec::new();
    for slice in slices_of(&namespace, &name, slices) {
        let same_name = |candidate: &Option<String>| {
            candidate.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
        };
        let target = slice
            .ports
            .iter()
            .flatten()
            .find(|candidate| same_name(&candidate.name));
        let Some(number) = target.and_then(|target| u16::try_from(target.port?).ok()) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let is_ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                != Some(false);
            if is_ready || publishes_all {
                let ips = endpoint
                    .addresses
                    .iter()
                    .filter_map(|address| address.parse().ok());
                found.extend(ips.map(|ip: IpAddr| SocketAddr::new(ip, number)));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "rows of a table read best as values"
)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, spec: serde_json::Value) -> Arc<Service> {
        let namespace = if name == "kubernetes" {
            "default"
        } else {
            "shop"
        };
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec}),
            )
            .unwrap(),
        )
    }

    fn slice(
        service: &str,
        port: serde_json::Value,
        endpoints: serde_json::Value,
    ) -> Arc<EndpointSlice> {
        let labels = json!({"kubernetes.io/service-name": service});
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("{service}-x"), "namespace": "shop", "labels": labels},
                "addressType": "IPv4", "ports": [port], "endpoints": endpoints
            }))
            .unwrap(),
        )
    }

    #[track_caller]
    fn check(
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
        expected: &[(&str, &[&str])],
    ) {
        let got = routes(services, slices, Some("127.0.0.1:6443".parse().unwrap()));
        let got: Vec<_> = got
            .iter()
            .map(|(address, route)| {
                (
                    address.to_string(),
                    route
                        .backends
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(address, backends)| {
                (
                    (*address).to_owned(),
                    backends
                        .iter()
                        .map(|backend| (*backend).to_owned())
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_route_leads_to_ready_endpoints_of_its_port() {
        let web = service(
            "web",
            json!({"clusterIP": "127.96.0.9", "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}),
        );
        let ready = json!([{"addresses": ["127.88.0.3"], "conditions": {"ready": true}}, {"addresses": ["127.88.0.2"]}, {"addresses": ["127.88.0.4"], "conditions": {"ready": false}}]);
        let slices = [
            slice("web", json!({"name": "http", "port": 8080}), ready.clone()),
            slice("other", json!({"name": "http", "port": 1}), ready.clone()),
        ];
        check(
            &[Arc::clone(&web)],
            &slices,
            &[("127.96.0.9:80", &["127.88.0.2:8080", "127.88.0.3:8080"])],
        );
        check(
            &[web],
            &[slice("web", json!({"name": "metrics", "port": 9}), ready)],
            &[("127.96.0.9:80", &[])],
        );
    }

    #[test]
    fn a_node_port_is_served_on_the_loopback_too() {
        let spec = json!({"type": "NodePort", "clusterIP": "127.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]});
        check(
            &[service("web", spec)],
            &[],
            &[("127.0.0.1:30080", &[]), ("127.96.0.9:80", &[])],
        );
    }

    #[test]
    fn headless_and_foreign_addresses_have_no_route() {
        check(
            &[service(
                "web",
                json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            )],
            &[],
            &[],
        );
        check(
            &[service(
                "web",
                json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}),
            )],
            &[],
            &[],
        );
    }

    #[test]
    fn the_api_server_is_reached_before_it_has_endpoints() {
        let kubernetes = service(
            "kubernetes",
            json!({"clusterIP": "127.96.0.1", "ports": [{"name": "https", "port": 443}]}),
        );
        check(
            &[kubernetes],
            &[],
            &[("127.96.0.1:443", &["127.0.0.1:6443"])],
        );
    }
}
