//! Cluster addresses and node ports: handed out once, reserved before the object is written.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::service;
use crate::pki::KUBERNETES_SERVICE_IP;
use crate::status::{ApiError, Cause};
use crate::values::text;

/// Services live in 127.96.0.0/16: loopback addresses, which every process of the host reaches without routes.
const NETWORK: [u8; 2] = [127, 96];
/// The first 256 are for who asks for one by name.
const FREE_HOSTS: std::ops::Range<u16> = 256..u16::MAX;
/// How often chance is tried before order.
const TRIES: usize = 64;
const NODE_PORTS: std::ops::RangeInclusive<u64> = 30000..=32767;

/// Which addresses and ports are taken.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: BTreeSet<u16>,
    ports: BTreeSet<u64>,
}

impl Addresses {
    /// Gives a new or changed service what it lacks; `old` is what it replaces.
    pub(crate) fn allocate(&self, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        // What the service has already is not taken by another.
        if let Some(old) = old {
            check_unchanged(object, old)?;
            self.forget(old);
        }
        let outcome = service::allocate(self, object);
        if let (Err(_), Some(old)) = (&outcome, old) {
            self.remember(old);
        }
        outcome
    }

    /// Marks what a stored service has as taken.
    pub(crate) fn remember(&self, service: &Value) {
        let mut taken = self.taken.lock();
        if let Some(host) = service["spec"]["clusterIP"].as_str().and_then(host) {
            taken.addresses.insert(host);
        }
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            taken.ports.extend(port["nodePort"].as_u64());
        }
    }

    fn forget(&self, service: &Value) {
        service::release_addresses(self, service, None);
    }

    /// A free address, chosen by chance: clusters side by side on one host hardly ever choose the same.
    pub(super) fn next_address(&self) -> Option<String> {
        let mut taken = self.taken.lock();
        let by_chance = std::iter::repeat_with(|| rand::random_range(FREE_HOSTS)).take(TRIES);
        let free = by_chance
            .chain(FREE_HOSTS)
            .find(|host| !taken.addresses.contains(host))?;
        taken.addresses.insert(free);
        let [high, low] = free.to_be_bytes();
        Some(Ipv4Addr::new(NETWORK[0], NETWORK[1], high, low).to_string())
    }

    pub(super) fn take_address(&self, wanted: &str, service: &str) -> Result<String, ApiError> {
        let refuse = |why: &str| {
            let cause = Cause::invalid("spec.clusterIPs", &json!([wanted]), why);
            Err(ApiError::invalid("", "Service", service, vec![cause]))
        };
        let Some(host) = host(wanted) else {
            return refuse(&format!(
                "failed to allocate IP {wanted}: the provided IP is not in the valid range. The range of valid IPs is 127.96.0.0/16"
            ));
        };
        let is_own = wanted == KUBERNETES_SERVICE_IP.to_string() && service == "kubernetes";
        if !self.taken.lock().addresses.insert(host) && !is_own {
            return refuse(&format!(
                "failed to allocate IP {wanted}: provided IP is already allocated"
            ));
        }
        Ok(wanted.to_owned())
    }

    pub(super) fn free_address(&self, address: &str) {
        if let Some(host) = host(address) {
            self.taken.lock().addresses.remove(&host);
        }
    }

    pub(super) fn next_port(&self) -> Option<u64> {
        let mut taken = self.taken.lock();
        let free = NODE_PORTS
            .into_iter()
            .find(|port| !taken.ports.contains(port))?;
        taken.ports.insert(free);
        Some(free)
    }

    pub(super) fn take_port(&self, wanted: u64, service: &str) -> Result<(), ApiError> {
        let refuse = |why: &str| {
            let cause = Cause::invalid("spec.ports[0].nodePort", &json!(wanted), why);
            Err(ApiError::invalid("", "Service", service, vec![cause]))
        };
        if !NODE_PORTS.contains(&wanted) {
            return refuse(
                "provided port is not in the valid range. The range of valid ports is 30000-32767",
            );
        }
        if !self.taken.lock().ports.insert(wanted) {
            return refuse("provided port is already allocated");
        }
        Ok(())
    }

    pub(super) fn free_port(&self, port: u64) {
        self.taken.lock().ports.remove(&port);
    }
}

/// An address stays for as long as the service has one.
fn check_unchanged(object: &Value, old: &Value) -> Result<(), ApiError> {
    let address = |service: &Value| text(&service["spec"]["clusterIP"]).to_owned();
    let (before, after) = (address(old), address(object));
    let external =
        old["spec"]["type"] == "ExternalName" || object["spec"]["type"] == "ExternalName";
    if external || before.is_empty() || before == after {
        return Ok(());
    }
    let cause = Cause::invalid(
        "spec.clusterIPs[0]",
        &json!([after]),
        "may not change once set",
    );
    Err(ApiError::invalid(
        "",
        "Service",
        text(&object["metadata"]["name"]),
        vec![cause],
    ))
}

fn host(address: &str) -> Option<u16> {
    let [first, second, high, low] = address.parse::<Ipv4Addr>().ok()?.octets();
    ([first, second] == NETWORK).then(|| u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_come_back() {
        let addresses = Addresses::default();
        let mut one = json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 1}]}});
        let mut two = one.clone();
        addresses.allocate(&mut one, None).unwrap();
        addresses.allocate(&mut two, None).unwrap();
        assert_ne!(one["spec"]["clusterIP"], two["spec"]["clusterIP"]);
        assert_ne!(
            one["spec"]["ports"][0]["nodePort"],
            two["spec"]["ports"][0]["nodePort"]
        );
        let mut same = one.clone();
        addresses.allocate(&mut same, Some(&one)).unwrap();
        assert_eq!(same, one);
        let refused = addresses.allocate(&mut one.clone(), None).unwrap_err();
        assert_eq!(refused.code, 422);
        release(&addresses, &one);
        addresses.allocate(&mut one, None).unwrap();
    }

    fn release(addresses: &Addresses, service: &Value) {
        service::release_addresses(addresses, service, None);
    }
}
