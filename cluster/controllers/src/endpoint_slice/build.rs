//! The slices that a Service should have, and what to change for it; pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{ResourceExt, core::ObjectMeta};

use crate::{names, owners, pods};

/// The label that names a slice's Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names who writes a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Us, by the name that clients know.
pub(crate) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label of slices of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// The most endpoints of one slice.
const ENDPOINTS_MAX: usize = 100;

/// One thing to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    /// Create a slice.
    Create(Box<EndpointSlice>),
    /// Make a slice say something else.
    Update {
        /// The slice as it is.
        present: Arc<EndpointSlice>,
        /// What it should say.
        wanted: Box<EndpointSlice>,
    },
    /// Delete a slice.
    Delete(Arc<EndpointSlice>),
}

/// The slices that a Service should have; `None` if somebody else writes them.
pub(crate) fn build(service: &Service, pods: &[Arc<Pod>]) -> Option<Vec<EndpointSlice>> {
    let spec = service.spec.as_ref()?;
    selector_of(service)?;
    let is_published_unready = spec.publish_not_ready_addresses == Some(true);
    let mut groups: BTreeMap<Vec<PortKey>, Vec<Endpoint>> = BTreeMap::new();
    let mut selected: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| is_affected(service, pod) && !pods::is_finished(pod))
        .collect();
    selected.sort_by_key(|pod| pod.name_any());
    for pod in selected {
        let Some(endpoint) = endpoint(service, pod, is_published_unready) else {
            continue;
        };
        let ports = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| resolve(port, pod))
            .collect();
        groups.entry(ports).or_default().push(endpoint);
    }
    if groups.is_empty() {
        // An empty slice tells "no endpoints" from "nobody has looked yet".
        groups.insert(
            spec.ports.iter().flatten().filter_map(unresolved).collect(),
            Vec::new(),
        );
    }
    let mut slices = Vec::new();
    for (ports, endpoints) in groups {
        let mut chunks: Vec<Vec<Endpoint>> = endpoints
            .chunks(ENDPOINTS_MAX)
            .map(<[Endpoint]>::to_vec)
            .collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        slices.extend(
            chunks
                .into_iter()
                .map(|chunk| slice(service, &ports, chunk)),
        );
    }
    Some(slices)
}

/// What to do so that `present` becomes `wanted`; as many slices as possible stay.
pub(crate) fn changes(
    wanted: Vec<EndpointSlice>,
    mut present: Vec<Arc<EndpointSlice>>,
) -> Vec<Change> {
    present.sort_by_key(|slice| slice.name_any());
    let mut changes = Vec::new();
    for wanted in wanted {
        let same = |slice: &Arc<EndpointSlice>| {
            slice.metadata.deletion_timestamp.is_none()
                && slice.address_type == wanted.address_type
                && slice.ports.as_deref().unwrap_or_default()
                    == wanted.ports.as_deref().unwrap_or_default()
        };
        let position =
            present
                .iter()
                .position(same)
                .or(if present.is_empty() { None } else { Some(0) });
        match position.map(|position| present.remove(position)) {
            None => changes.push(Change::Create(Box::new(wanted))),
            Some(present) if says(&present, &wanted) => {}
            Some(present) => changes.push(Change::Update {
                present,
                wanted: Box::new(wanted),
            }),
        }
    }
    changes.extend(present.into_iter().map(Change::Delete));
    changes
}

/// Whether the Pod is selected by the Service.
pub(crate) fn is_affected(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = selector_of(service) else {
        return false;
    };
    let labels = pod.labels();
    selector
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

fn selector_of(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector
        .as_ref()
        .filter(|selector| !selector.is_empty())
}

fn says(present: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let has_labels = wanted
        .labels()
        .iter()
        .all(|(name, value)| present.labels().get(name) == Some(value));
    has_labels
        && present.endpoints.as_deref().unwrap_or_default()
            == wanted.endpoints.as_deref().unwrap_or_default()
        && present.ports.as_deref().unwrap_or_default()
            == wanted.ports.as_deref().unwrap_or_default()
}

/// A port with its number on the Pods: name, number, protocol, application protocol.
type PortKey = (String, Option<i32>, String, Option<String>);

fn port_key(port: &ServicePort, number: Option<i32>) -> PortKey {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    (
        port.name.clone().unwrap_or_default(),
        number,
        protocol,
        port.app_protocol.clone(),
    )
}

/// The port's number on a Pod; a name that the Pod does not have leaves the port out.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<PortKey> {
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            named_port(pod, name, port.protocol.as_deref().unwrap_or("TCP"))?
        }
    };
    Some(port_key(port, Some(number)))
}

fn unresolved(port: &ServicePort) -> Option<PortKey> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port_key(port, Some(port.port))),
        Some(IntOrString::Int(number)) => Some(port_key(port, Some(*number))),
        Some(IntOrString::String(_)) => None,
    }
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let ports = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .filter_map(|container| container.ports.as_ref());
    let mut matching = ports.flatten().filter(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    matching.next().map(|port| port.container_port)
}

fn endpoint(service: &Service, pod: &Pod, is_published_unready: bool) -> Option<Endpoint> {
    let address = pod
        .status
        .as_ref()?
        .pod_ip
        .clone()
        .filter(|address| !address.is_empty())?;
    let spec = pod.spec.as_ref()?;
    let is_going = pods::is_going(pod);
    let is_serving = pods::is_ready(pod);
    let has_hostname = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(is_published_unready || (is_serving && !is_going)),
            serving: Some(is_serving),
            terminating: Some(is_going),
        }),
        hostname: spec.hostname.clone().filter(|_| has_hostname),
        node_name: spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

fn slice(service: &Service, ports: &[PortKey], endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let spec = service.spec.clone().unwrap_or_default();
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let ports = ports
        .iter()
        .cloned()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: Some(name),
            port,
            protocol: Some(protocol),
            app_protocol,
        });
    let mut owner = owners::controller_reference(service);
    owner.block_owner_deletion = Some(true);
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: Some(endpoints),
        metadata: ObjectMeta {
            name: Some(names::random_name(&format!("{}-", service.name_any()))),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        ports: Some(ports.collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::{
        api::{
            core::v1::{
                Container, ContainerPort, Pod, PodCondition, PodSpec, PodStatus, Service,
                ServicePort, ServiceSpec,
            },
            discovery::v1::EndpointSlice,
        },
        apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
        jiff::Timestamp,
    };

    use super::{Change, build, changes};

    fn service(target: IntOrString) -> Service {
        let port = ServicePort {
            port: 80,
            target_port: Some(target),
            ..ServicePort::default()
        };
        Service {
            spec: Some(ServiceSpec {
                selector: Some([("app".to_owned(), "a".to_owned())].into()),
                ports: Some(vec![port]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        }
    }

    fn pod(name: &str, is_ready: bool, is_going: bool, port: i32) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.labels = Some([("app".to_owned(), "a".to_owned())].into());
        pod.metadata.deletion_timestamp = is_going.then_some(Time(Timestamp::UNIX_EPOCH));
        let port = ContainerPort {
            name: Some("http".to_owned()),
            container_port: port,
            ..ContainerPort::default()
        };
        let container = Container {
            ports: Some(vec![port]),
            ..Container::default()
        };
        pod.spec = Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        });
        let ready = PodCondition {
            type_: "Ready".to_owned(),
            status: if is_ready { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        };
        pod.status = Some(PodStatus {
            pod_ip: Some(format!("127.0.0.{}", name.len())),
            conditions: Some(vec![ready]),
            ..PodStatus::default()
        });
        Arc::new(pod)
    }

    type ExpectedRow<'a> = (&'a str, Option<i32>, &'a [(bool, bool, bool)]);
    type Row = (String, Option<i32>, Vec<(bool, bool, bool)>);

    fn rows(slices: &[EndpointSlice]) -> Vec<Row> {
        let row = |slice: &EndpointSlice| {
            let port = slice
                .ports
                .as_ref()
                .and_then(|ports| ports.first())
                .and_then(|port| port.port);
            let endpoints = slice.endpoints.iter().flatten();
            let conditions = endpoints.clone().filter_map(|endpoint| {
                let conditions = endpoint.conditions.as_ref()?;
                Some((
                    conditions.ready?,
                    conditions.serving?,
                    conditions.terminating?,
                ))
            });
            let addresses: Vec<&str> = endpoints
                .clone()
                .flat_map(|endpoint| &endpoint.addresses)
                .map(String::as_str)
                .collect();
            (addresses.join(","), port, conditions.collect())
        };
        slices.iter().map(row).collect()
    }

    #[track_caller]
    fn check(target: IntOrString, pods: &[Arc<Pod>], expected: &[ExpectedRow<'_>]) {
        let expected: Vec<Row> = expected
            .iter()
            .map(|(addresses, port, conditions)| {
                ((*addresses).to_owned(), *port, conditions.to_vec())
            })
            .collect();
        assert_eq!(rows(&build(&service(target), pods).unwrap()), expected);
    }

    #[test]
    fn endpoints_say_ready_serving_and_terminating() {
        let number = || IntOrString::Int(8080);
        check(number(), &[], &[("", Some(8080), &[])]);
        check(
            number(),
            &[pod("a", true, false, 1)],
            &[("127.0.0.1", Some(8080), &[(true, true, false)])],
        );
        check(
            number(),
            &[pod("a", true, true, 1)],
            &[("127.0.0.1", Some(8080), &[(false, true, true)])],
        );
        check(
            number(),
            &[pod("a", false, false, 1)],
            &[("127.0.0.1", Some(8080), &[(false, false, false)])],
        );
    }

    #[test]
    fn a_named_port_that_differs_between_pods_makes_a_slice_each() {
        let named = IntOrString::String("http".to_owned());
        let pods = [
            pod("a", true, false, 1),
            pod("bb", true, false, 2),
            pod("ccc", true, false, 1),
        ];
        let ready = (true, true, false);
        check(
            named,
            &pods,
            &[
                ("127.0.0.1,127.0.0.3", Some(1), &[ready, ready]),
                ("127.0.0.2", Some(2), &[ready]),
            ],
        );
    }

    #[test]
    fn slices_that_say_the_same_are_left_alone() {
        let pods = [pod("a", true, false, 1)];
        let built = build(&service(IntOrString::Int(1)), &pods).unwrap();
        let present: Vec<Arc<EndpointSlice>> = built.iter().cloned().map(Arc::new).collect();
        assert!(changes(built, present.clone()).is_empty());
        let unready = build(&service(IntOrString::Int(1)), &[pod("a", false, false, 1)]).unwrap();
        assert!(matches!(
            changes(unready, present).as_slice(),
            [Change::Update { .. }]
        ));
    }

    #[test]
    fn a_service_without_selector_is_somebody_elses() {
        let mut service = service(IntOrString::Int(1));
        service.spec.as_mut().unwrap().selector = None;
        assert_eq!(build(&service, &[]), None);
    }
}
