//! `CONNECT`: a tunnel to a listed domain, whose TLS server name must be that domain.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use super::server_name::{ServerName, server_name};
use super::{Blocked, Proxy};
use crate::gate::policy::Denial;

/// A client that speaks first does so at once; one that does not is not TLS.
const FIRST_WORD_MAX: Duration = Duration::from_secs(2);
/// Longer than any hello.
const HELLO_BYTES_MAX: usize = 16 << 10;

/// Opens a tunnel.
pub(super) async fn open(
    proxy: &Proxy,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Blocked> {
    let Some((host, port)) = request
        .uri()
        .authority()
        .and_then(|authority| Some((authority.host().to_owned(), authority.port_u16()?)))
    else {
        return Err(Denial::Malformed.into());
    };
    let upstream = proxy.connect(&host, port).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    let owner = proxy.clone();
    proxy.keep(async move {
        match upgrade.await {
            Ok(client) => {
                if let Err(denial) = pass(client, upstream, &host).await {
                    owner.deny(&host, port, denial);
                }
            }
            Err(error) => tracing::debug!(%error, "tunnel not opened"),
        }
    });
    Ok(Response::new(Body::empty()))
}

async fn pass(client: Upgraded, mut upstream: TcpStream, host: &str) -> Result<(), Denial> {
    let mut client = TokioIo::new(client);
    let hello = first_words(&mut client).await;
    if let ServerName::Name(name) = server_name(&hello)
        && !name.eq_ignore_ascii_case(host.trim_end_matches('.'))
    {
        return Err(Denial::ServerName);
    }
    let outcome = async {
        upstream.write_all(&hello).await?;
        copy_bidirectional(&mut client, &mut upstream).await
    };
    if let Err(error) = outcome.await {
        tracing::debug!(%error, "tunnel ended");
    }
    Ok(())
}

/// Reads until a TLS hello is whole, or it is clear that there is none.
async fn first_words(client: &mut TokioIo<Upgraded>) -> Vec<u8> {
    let mut hello = Vec::new();
    let mut buffer = vec![0; 4_096];
    while hello.len() < HELLO_BYTES_MAX && server_name(&hello) == ServerName::Incomplete {
        match tokio::time::timeout(FIRST_WORD_MAX, client.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => hello.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    hello
}
