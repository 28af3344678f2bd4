//! Connections to stores outside of the gateway: plain or TLS, never to an address that no request may go to.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use protocol::address::is_forbidden;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What speaks TLS to stores; it trusts the system's certificates.
static TLS: LazyLock<Result<TlsConnector, String>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be read is one that is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
});

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection to a host's port.
///
/// # Errors
/// The host has no address that a request may go to, or nobody answers there.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = lookup_host((bare, port)).await?;
    let allowed = found.filter(|address| !is_forbidden(address.ip()));
    let allowed: Vec<SocketAddr> = allowed.collect();
    if allowed.is_empty() {
        let message = "the store has no address that a request may go to";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let stream = TcpStream::connect(&*allowed).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Speaks TLS over a connection, with the host that its URL names.
///
/// # Errors
/// The host's certificate is not trusted, or it does not speak TLS.
pub(crate) async fn encrypt(host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let connector = TLS
        .as_ref()
        .map_err(|reason| io::Error::other(reason.clone()))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    connector.connect(name, stream).await
}
