//! What programs may reach: listed domains, and of those only addresses that are the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Ports that a domain without one allows.
const PORTS_DEFAULT: [u16; 2] = [80, 443];

/// The domains that programs may reach; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    entries: Vec<Entry>,
}

/// An entry that is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is no domain: write example.com, *.example.com or example.com:8443, and no addresses"
)]
pub struct InvalidDomain {
    /// What was given.
    pub entry: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    /// Names below count, the name itself does not.
    below: bool,
    port: Option<u16>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("the domain is not on the workspace's allow list")]
    NotListed,
    #[error("addresses are not allowed, only domains")]
    Literal,
    #[error("the name is not a domain")]
    Malformed,
    #[error("the domain does not exist")]
    Unresolved,
    #[error("the domain leads to a private address")]
    PrivateAddress,
    #[error("the TLS server name is not the domain of the tunnel")]
    ServerName,
}

impl AllowList {
    /// Reads entries.
    ///
    /// # Errors
    /// The first entry that is no domain.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, InvalidDomain> {
        let entries = entries
            .iter()
            .map(|entry| entry.as_ref().parse())
            .collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// Decides about a name before it is looked up.
    pub(crate) fn check(&self, host: &str, port: u16) -> Result<(), Denial> {
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if is_literal(host) {
            return Err(Denial::Literal);
        }
        if !is_domain(host) {
            return Err(Denial::Malformed);
        }
        if self.entries.iter().any(|entry| entry.covers(host, port)) {
            Ok(())
        } else {
            Err(Denial::NotListed)
        }
    }
}

impl Entry {
    fn covers(&self, host: &str, port: u16) -> bool {
        let name = if self.below {
            host.strip_suffix(&self.name)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.name
        };
        name && self
            .port
            .map_or_else(|| PORTS_DEFAULT.contains(&port), |own| own == port)
    }
}

impl FromStr for Entry {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        let invalid = || InvalidDomain {
            entry: text.to_owned(),
        };
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let name = name.to_ascii_lowercase();
        let (name, below) = name
            .strip_prefix("*.")
            .map_or((name.as_str(), false), |name| (name, true));
        let name = name.strip_suffix('.').unwrap_or(name);
        if !is_domain(name) || is_literal(name) {
            return Err(invalid());
        }
        Ok(Self {
            name: name.to_owned(),
            below,
            port,
        })
    }
}

/// Addresses in all the ways that resolvers accept: dotted, in brackets, as one number, octal or hexadecimal.
fn is_literal(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let last = bare.rsplit('.').next().unwrap_or(bare);
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    bare.contains(':') || bare.parse::<IpAddr>().is_ok() || (!last.is_empty() && is_number)
}

fn is_domain(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

/// Whether an address is on the public internet: not the host's, not a neighbour's, not a cloud's metadata.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation();
    // This network, shared carrier space, protocol assignments, 6to4 relays, benchmarks, the future.
    let reserved = a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && matches!(b, 18 | 19))
        || a >= 240;
    !special && !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, ..] = address.segments();
    // Global unicast, less what carries another address inside (Teredo, 6to4), documentation and benchmarks.
    let global = a & 0xe000 == 0x2000;
    let special =
        (a == 0x2001 && (b < 0x0200 || b == 0x0db8)) || a == 0x2002 || (a == 0x3fff && b < 0x1000);
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entries: &[&str], host: &str, port: u16, expected: Result<(), Denial>) {
        assert_eq!(
            AllowList::parse(entries).unwrap().check(host, port),
            expected,
            "{host}:{port} of {entries:?}"
        );
    }

    #[test]
    fn only_listed_domains_are_reached() {
        check(&[], "example.com", 443, Err(Denial::NotListed));
        check(&["example.com"], "example.com", 443, Ok(()));
        check(&["example.com"], "EXAMPLE.com.", 80, Ok(()));
        check(&["example.com"], "example.com", 22, Err(Denial::NotListed));
        check(&["example.com:22"], "example.com", 22, Ok(()));
        check(
            &["example.com:22"],
            "example.com",
            443,
            Err(Denial::NotListed),
        );
        check(
            &["example.com"],
            "a.example.com",
            443,
            Err(Denial::NotListed),
        );
        check(&["*.example.com"], "a.example.com", 443, Ok(()));
        check(&["*.example.com"], "a.b.example.com", 443, Ok(()));
        check(
            &["*.example.com"],
            "example.com",
            443,
            Err(Denial::NotListed),
        );
        check(
            &["*.example.com"],
            ".example.com",
            443,
            Err(Denial::Malformed),
        );
        check(
            &["*.example.com"],
            "evilexample.com",
            443,
            Err(Denial::NotListed),
        );
        check(
            &["example.com"],
            "example.com.evil.net",
            443,
            Err(Denial::NotListed),
        );
        check(
            &["example.com"],
            "example.com\0.evil.net",
            443,
            Err(Denial::Malformed),
        );
        check(
            &["example.com"],
            "example.com/x",
            443,
            Err(Denial::Malformed),
        );
    }

    #[test]
    fn addresses_are_no_domains_however_written() {
        for literal in [
            "127.0.0.1",
            "[::1]",
            "::1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "1.2.3.0x4",
        ] {
            check(&["example.com"], literal, 443, Err(Denial::Literal));
            assert!(AllowList::parse(&[literal]).is_err(), "{literal}");
        }
        assert!(AllowList::parse(&["*"]).is_err());
        assert!(AllowList::parse(&["a..b"]).is_err());
        assert!(AllowList::parse(&["example.com:x"]).is_err());
    }

    #[test]
    fn only_the_public_internet_is_public() {
        let public = [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "172.32.0.1",
            "100.128.0.1",
        ];
        let private = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
        ];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in private {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
