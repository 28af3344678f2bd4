//! What the names of Services and Pods stand for. Pure but for the snapshot of the caches.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

use crate::context::NodeContext;
use crate::services::plan::slices_of;

/// The names of this cluster.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) context: Arc<NodeContext>,
    pub(crate) domain: String,
}

impl Names {
    /// The names as they are now.
    pub(crate) fn zone(&self) -> Zone {
        Zone {
            domain: self.domain.clone(),
            services: self.context.caches.services.state(),
            slices: self.context.caches.slices.state(),
        }
    }
}

/// The Services and endpoints at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone {
    pub(crate) domain: String,
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Address,
    Place,
    /// A record that exists for no name here.
    Other,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It is not in our domain.
    Foreign,
    /// It is in our domain, but there is nothing.
    Nothing,
    /// It exists; there may be no record of the wanted kind.
    Addresses(Vec<Ipv4Addr>),
    /// Ports and the names of their hosts.
    Places(Vec<(u16, String)>),
}

impl Zone {
    /// Looks a name up; `name` is lower case and has no dot at its end.
    pub(crate) fn look_up(&self, name: &str, kind: Kind) -> Meaning {
        let inside = match name.strip_suffix(self.domain.as_str()) {
            Some("") => return Meaning::Addresses(Vec::new()),
            Some(inside) => inside.strip_suffix('.'),
            // The short form, for those who do not search our domain.
            None => (name.ends_with(".svc")).then_some(name),
        };
        let Some(inside) = inside else {
            return Meaning::Foreign;
        };
        let mut labels: Vec<&str> = inside.split('.').collect();
        match labels.pop() {
            Some("svc") => self.service_name(&labels, kind),
            Some("pod") => pod_name(&labels),
            _ => Meaning::Nothing,
        }
    }

    fn service_name(&self, labels: &[&str], kind: Kind) -> Meaning {
        match *labels {
            // These exist only as parts of other names.
            [] | [_] => Meaning::Addresses(Vec::new()),
            [name, namespace] => match self.service(namespace, name) {
                Some(service) if kind == Kind::Place => Meaning::Places(self.places(service, None)),
                Some(service) => Meaning::Addresses(self.addresses(service)),
                None => Meaning::Nothing,
            },
            [host, name, namespace] => self.host(host, namespace, name),
            [port, protocol, name, namespace]
                if port.starts_with('_') && protocol.starts_with('_') =>
            {
                let Some(service) = self.service(namespace, name) else {
                    return Meaning::Nothing;
                };
                let places = self.places(service, Some((&port[1..], &protocol[1..])));
                if places.is_empty() {
                    Meaning::Nothing
                } else {
                    Meaning::Places(places)
                }
            }
            _ => Meaning::Nothing,
        }
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        let found = self.services.iter().find(|service| {
            service.namespace().as_deref() == Some(namespace) && service.name_any() == name
        });
        found.map(AsRef::as_ref)
    }

    fn addresses(&self, service: &Service) -> Vec<Ipv4Addr> {
        if let Some(ip) = cluster_ip(service) {
            return vec![ip];
        }
        let mut ips: Vec<Ipv4Addr> = self
            .endpoints(service)
            .flat_map(|(_, endpoint)| ips(endpoint))
            .collect();
        ips.sort_unstable();
        ips.dedup();
        ips
    }

    fn host(&self, host: &str, namespace: &str, name: &str) -> Meaning {
        let Some(service) = self.service(namespace, name) else {
            return Meaning::Nothing;
        };
        let named = self
            .endpoints(service)
            .filter(|(_, endpoint)| host_name(endpoint).as_deref() == Some(host));
        let mut ips: Vec<Ipv4Addr> = named.flat_map(|(_, endpoint)| ips(endpoint)).collect();
        ips.dedup();
        if ips.is_empty() {
            Meaning::Nothing
        } else {
            Meaning::Addresses(ips)
        }
    }

    fn places(&self, service: &Service, wanted: Option<(&str, &str)>) -> Vec<(u16, String)> {
        let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
        let base = format!("{name}.{namespace}.svc.{}", self.domain);
        let fits = |port: &str, protocol: &str| {
            wanted.is_none_or(|(name, kind)| name == port && protocol.eq_ignore_ascii_case(kind))
        };
        if cluster_ip(service).is_some() {
            let ports = service
                .spec
                .iter()
                .flat_map(|spec| spec.ports.iter().flatten());
            let ports = ports.filter(|port| {
                fits(
                    port.name.as_deref().unwrap_or_default(),
                    port.protocol.as_deref().unwrap_or("TCP"),
                )
            });
            return ports
                .filter_map(|port| Some((u16::try_from(port.port).ok()?, base.clone())))
                .collect();
        }
        let mut places = Vec::new();
        for (slice, endpoint) in self.endpoints(service) {
            let Some(host) = host_name(endpoint) else {
                continue;
            };
            for port in slice.ports.iter().flatten() {
                let is_wanted = fits(
                    port.name.as_deref().unwrap_or_default(),
                    port.protocol.as_deref().unwrap_or("TCP"),
                );
                if let Some(number) = port
                    .port
                    .and_then(|port| u16::try_from(port).ok())
                    .filter(|_| is_wanted)
                {
                    places.push((number, format!("{host}.{base}")));
                }
            }
        }
        places
    }

    fn endpoints<'a>(
        &'a self,
        service: &'a Service,
    ) -> impl Iterator<Item = (&'a EndpointSlice, &'a Endpoint)> {
        let publishes_all = service
            .spec
            .as_ref()
            .and_then(|spec| spec.publish_not_ready_addresses)
            == Some(true);
        let (namespace, name) = (
            service.metadata.namespace.as_deref().unwrap_or_default(),
            service.metadata.name.as_deref().unwrap_or_default(),
        );
        let all = slices_of(namespace, name, &self.slices).flat_map(|slice| {
            slice
                .endpoints
                .iter()
                .flatten()
                .map(move |endpoint| (slice, endpoint))
        });
        all.filter(move |(_, endpoint)| {
            publishes_all
                || endpoint
                    .conditions
                    .as_ref()
                    .and_then(|conditions| conditions.ready)
                    != Some(false)
        })
    }
}

fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

fn ips(endpoint: &Endpoint) -> Vec<Ipv4Addr> {
    endpoint
        .addresses
        .iter()
        .filter_map(|address| address.parse().ok())
        .collect()
}

/// The host's name, or its address with dashes as Kubernetes writes it.
fn host_name(endpoint: &Endpoint) -> Option<String> {
    let dashed = || {
        endpoint
            .addresses
            .first()
            .map(|address| address.replace('.', "-"))
    };
    endpoint.hostname.clone().or_else(dashed)
}

/// `127-88-0-2.NAMESPACE.pod`: the address is the name.
fn pod_name(labels: &[&str]) -> Meaning {
    let [dashed, _namespace] = labels else {
        return Meaning::Nothing;
    };
    match dashed.replace('-', ".").parse() {
        Ok(IpAddr::V4(ip)) => Meaning::Addresses(vec![ip]),
        _ => Meaning::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn zone() -> Zone {
        let service = |name: &str, spec: serde_json::Value| {
            Arc::new(
                serde_json::from_value(
                    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}),
                )
                .unwrap(),
            )
        };
        let slice = json!({
            "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["127.88.0.3"], "hostname": "db-1"}, {"addresses": ["127.88.0.2"], "hostname": "db-0"},
                {"addresses": ["127.88.0.9"], "hostname": "db-2", "conditions": {"ready": false}}
            ]
        });
        Zone {
            domain: "cluster.local".to_owned(),
            services: vec![
                service(
                    "web",
                    json!({"clusterIP": "127.96.0.9", "ports": [{"name": "http", "port": 80}]}),
                ),
                service(
                    "db",
                    json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}),
                ),
            ],
            slices: vec![Arc::new(serde_json::from_value(slice).unwrap())],
        }
    }

    #[track_caller]
    fn check(name: &str, kind: Kind, expected: &Meaning) {
        assert_eq!(zone().look_up(name, kind), *expected, "{name}");
    }

    fn addresses(ips: &[[u8; 4]]) -> Meaning {
        Meaning::Addresses(ips.iter().map(|ip| Ipv4Addr::from(*ip)).collect())
    }

    #[test]
    fn service_names_lead_to_their_addresses() {
        check(
            "web.shop.svc.cluster.local",
            Kind::Address,
            &addresses(&[[127, 96, 0, 9]]),
        );
        check(
            "web.shop.svc",
            Kind::Address,
            &addresses(&[[127, 96, 0, 9]]),
        );
        check(
            "db.shop.svc.cluster.local",
            Kind::Address,
            &addresses(&[[127, 88, 0, 2], [127, 88, 0, 3]]),
        );
        check(
            "db-0.db.shop.svc.cluster.local",
            Kind::Address,
            &addresses(&[[127, 88, 0, 2]]),
        );
        check(
            "127-88-0-7.shop.pod.cluster.local",
            Kind::Address,
            &addresses(&[[127, 88, 0, 7]]),
        );
        check(
            "db-2.db.shop.svc.cluster.local",
            Kind::Address,
            &Meaning::Nothing,
        );
        check(
            "no.shop.svc.cluster.local",
            Kind::Address,
            &Meaning::Nothing,
        );
        check(
            "web.other.svc.cluster.local",
            Kind::Address,
            &Meaning::Nothing,
        );
        check("svc.cluster.local", Kind::Address, &addresses(&[]));
        check("example.com", Kind::Address, &Meaning::Foreign);
        check("evilcluster.local", Kind::Address, &Meaning::Foreign);
    }

    #[test]
    fn named_ports_lead_to_places() {
        let places = |places: &[(u16, &str)]| {
            Meaning::Places(
                places
                    .iter()
                    .map(|(port, host)| (*port, (*host).to_owned()))
                    .collect(),
            )
        };
        check(
            "_http._tcp.web.shop.svc.cluster.local",
            Kind::Place,
            &places(&[(80, "web.shop.svc.cluster.local")]),
        );
        check(
            "_sql._tcp.db.shop.svc.cluster.local",
            Kind::Place,
            &places(&[
                (5432, "db-1.db.shop.svc.cluster.local"),
                (5432, "db-0.db.shop.svc.cluster.local"),
            ]),
        );
        check(
            "_no._tcp.web.shop.svc.cluster.local",
            Kind::Place,
            &Meaning::Nothing,
        );
        check(
            "_http._udp.web.shop.svc.cluster.local",
            Kind::Place,
            &Meaning::Nothing,
        );
    }
}
