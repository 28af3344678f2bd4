//! The client for upstreams: one connection pool per endpoint, HTTP/1.1 for `http`, HTTP/2 where `https` agrees on it.

mod guard;
mod patience;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use self::guard::Guarded;
use self::patience::Patient;
pub(crate) use self::patience::{connecting_within, is_connect_timeout};
use crate::decode::UploadBody;

/// The client for upstreams. It follows no redirects, which could lead a credential anywhere.
pub(crate) type Upstream = Client<Connector, Full<Bytes>>;

/// The client for forms, whose bodies come while they are sent.
pub(crate) type Uploads = Client<Connector, UploadBody>;

/// What connects to upstreams.
type Connector = Patient<HttpsConnector<HttpConnector<Guarded>>>;

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Idle connections kept for each endpoint.
const IDLE_MAX: usize = 128;

/// A client that trusts the system's certificates; without any, `https` upstreams cannot be reached.
pub(crate) fn client<B>() -> Client<Connector, B>
where
    B: Body<Data = Bytes> + Send,
{
    client_of(true)
}

/// A client for what HTTP/2 has not.
pub(crate) fn http1_client() -> Upstream {
    client_of(false)
}

fn client_of<B>(has_http2: bool) -> Client<Connector, B>
where
    B: Body<Data = Bytes> + Send,
{
    let mut http = HttpConnector::new_with_resolver(Guarded::new());
    http.set_nodelay(true);
    http.enforce_http(false);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = HttpsConnectorBuilder::new();
    let connector = match builder.with_provider_and_native_roots(provider) {
        Ok(builder) if has_http2 => builder
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http),
        Ok(builder) => builder.https_or_http().enable_http1().wrap_connector(http),
        Err(error) => {
            tracing::warn!(%error, "no system certificates, https upstreams cannot be reached");
            let _ = rustls::crypto::ring::default_provider().install_default();
            let config = rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            let builder = HttpsConnectorBuilder::new().with_tls_config(config);
            builder
                .https_or_http()
                .enable_all_versions()
                .wrap_connector(http)
        }
    };
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(Patient::new(connector))
}

/// An error with its causes. They hold no address, of which a part may be a credential.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
