//! Clients for what is outside of this process: one for our own network, one that honours proxies.

use std::{net::IpAddr, time::Duration};

use reqwest::redirect;
use thiserror::Error;
use url::{Host, Url};

use crate::failure::{Failure, chain};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence inside an answer; a model on a busy CPU may think for minutes before its first token.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest pause that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// The clients could not be made.
#[derive(Debug, Error)]
#[error("preparing HTTP clients")]
pub(crate) struct ClientError(#[from] reqwest::Error);

/// HTTP clients.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    inside: reqwest::Client,
    outside: reqwest::Client,
}

impl Outbound {
    pub(crate) fn new() -> Result<Self, ClientError> {
        // Another part of the process may have installed the provider already; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                // A redirect would carry credentials to a place that nobody configured.
                .redirect(redirect::Policy::none())
        };
        Ok(Self {
            inside: builder().no_proxy().build()?,
            outside: builder().build()?,
        })
    }

    /// The client for our own network, workspaces among it: no proxy ever sees these requests.
    pub(crate) const fn inside(&self) -> &reqwest::Client {
        &self.inside
    }

    /// The client for an address: cluster and loopback addresses are reached directly whatever proxies the host has.
    pub(crate) fn client(&self, url: &str) -> &reqwest::Client {
        if Url::parse(url).is_ok_and(|url| is_inside(&url)) {
            &self.inside
        } else {
            &self.outside
        }
    }
}

fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_private(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_private(IpAddr::V6(address)),
        Some(Host::Domain(name)) => {
            !name.contains('.')
                || name.ends_with(".svc")
                || name.contains(".svc.")
                || name.ends_with(".localhost")
        }
        None => false,
    }
}

const fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

/// How a request that got no answer, or half of one, is to be taken.
pub(crate) fn broken(what: &str, error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::permanent(format!("{what}: {}", chain(error)));
    }
    let message = format!("{what}: {}", without_url(error));
    if error.is_connect() {
        Failure::unavailable(message)
    } else {
        Failure::transient(message)
    }
}

/// The URL may hold credentials that somebody put there, and says nothing that the caller does not know.
fn without_url(error: &reqwest::Error) -> String {
    let text = chain(error);
    match error.url() {
        Some(url) => text.replace(&format!(" for url ({url})"), ""),
        None => text,
    }
}

/// How long a server asks to wait.
pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::is_inside;

    #[track_caller]
    fn check(url: &str, expected: bool) {
        assert_eq!(is_inside(&url.parse().unwrap()), expected, "{url}");
    }

    #[test]
    fn the_cluster_and_the_host_are_inside() {
        check("http://127.0.0.1:8080/v1", true);
        check("http://10.96.0.1/v1", true);
        check("http://[::1]:8080", true);
        check("http://localhost:8080", true);
        check("http://gateway.quarterdeck-system.svc:8080/v1", true);
        check(
            "http://gateway.quarterdeck-system.svc.cluster.local/v1",
            true,
        );
        check("https://api.example.com/v1", false);
        check("https://93.184.216.34/v1", false);
    }
}
