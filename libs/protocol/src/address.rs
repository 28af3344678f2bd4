//! Addresses that no request may go to: the metadata services of clouds, and what is only on the same wire.
//!
//! Loopback and private addresses stay allowed, since that is where models inside a cluster are. The names are checked
//! where an address is configured, and what they resolve to again where a connection is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names of metadata services, which hand out credentials of the machine.
const METADATA_NAMES: [&str; 4] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
];

/// Addresses of metadata services outside of the link-local networks.
const METADATA_V4: [Ipv4Addr; 3] = [
    // Alibaba's.
    Ipv4Addr::new(100, 100, 100, 200),
    // Azure's wire server.
    Ipv4Addr::new(168, 63, 129, 16),
    // Oracle's.
    Ipv4Addr::new(192, 0, 0, 192),
];

/// Addresses of metadata services in IPv6: Amazon's and Google's.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Schemes of the URLs of a Redis.
pub const STORE_SCHEMES: [&str; 2] = ["redis", "rediss"];

/// Whether no request may go to an address.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_forbidden_v4(address),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_multicast()
                || METADATA_V6.contains(&address)
                || inner(address).is_some_and(is_forbidden_v4)
        }
    }
}

/// Whether no request may go to a host: an address, with or without brackets, or a name.
///
/// A name that is not a metadata service's may still resolve to one: [`is_forbidden`] tells of the address then.
pub fn is_forbidden_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => is_forbidden(address),
        Err(_) => {
            let name = bare.trim_end_matches('.').to_ascii_lowercase();
            METADATA_NAMES.contains(&&*name)
        }
    }
}

/// The host of an `http` or `https` URL, without port and password.
pub fn host_of(url: &str) -> Option<&str> {
    host_in(url, &["http", "https"])
}

/// The host of a URL of one of these schemes, without port and password.
pub fn host_in<'a>(url: &'a str, schemes: &[&str]) -> Option<&'a str> {
    let (scheme, rest) = url.split_once("://")?;
    if !schemes
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    (!host.is_empty()).then_some(host)
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || METADATA_V4.contains(&address)
}

/// The IPv4 address that is written in one of IPv6: mapped, compatible, of NAT64, or of 6to4.
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let of = |high: u16, low: u16| {
        let [first, second] = high.to_be_bytes();
        let [third, fourth] = low.to_be_bytes();
        Some(Ipv4Addr::new(first, second, third, fourth))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{host_of, is_forbidden_host};

    #[track_caller]
    fn check(host: &str, expected: bool) {
        assert_eq!(is_forbidden_host(host), expected, "{host}");
    }

    #[test]
    fn metadata_services_and_the_same_wire_are_forbidden() {
        for host in [
            "169.254.169.254",
            "169.254.0.1",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "[fd00:ec2::254]",
            "fd20:ce::254",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "metadata.google.internal",
            "Metadata.Google.Internal.",
            "metadata",
            "instance-data",
        ] {
            check(host, true);
        }
    }

    #[test]
    fn models_inside_a_cluster_may_be_reached() {
        for host in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.253.255.255",
            "169.255.0.0",
            "fd00::1",
            "::ffff:10.0.0.1",
            "fec0::1",
            "8.8.8.8",
            "vllm.models.svc",
            "metadata.example",
        ] {
            check(host, false);
        }
    }

    #[test]
    fn the_host_is_what_a_client_would_connect_to() {
        for (url, expected) in [
            ("https://a.example/v1", Some("a.example")),
            ("http://a.example:80", Some("a.example")),
            (
                "http://user:pass@169.254.169.254/x",
                Some("169.254.169.254"),
            ),
            ("http://a.example@169.254.169.254", Some("169.254.169.254")),
            ("HTTP://[fe80::1]:80/v1", Some("fe80::1")),
            ("http://a.example?x@y", Some("a.example")),
            ("ftp://a.example", None),
            ("https://", None),
            ("a.example", None),
        ] {
            assert_eq!(host_of(url), expected, "{url}");
        }
    }
}
