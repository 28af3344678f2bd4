//! Plain HTTP through the proxy: the request goes to the domain in its own line, whatever its headers say.

use axum::body::Body;
use http::header::{
    CONNECTION, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE,
};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Blocked, Proxy};
use crate::gate::policy::Denial;

const HTTP_PORT: u16 = 80;
/// Between two neighbours only.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Forwards a request.
pub(super) async fn forward(
    proxy: &Proxy,
    request: Request<Incoming>,
) -> Result<Response<Body>, Blocked> {
    let (host, port, request) = address(request)?;
    let upstream = proxy.connect(&host, port).await?;
    let away = |error: hyper::Error| Blocked::Unreachable(std::io::Error::other(error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(upstream))
        .await
        .map_err(away)?;
    proxy.keep(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "forwarded connection ended");
        }
    });
    let (mut parts, body) = sender
        .send_request(request)
        .await
        .map_err(away)?
        .into_parts();
    strip(&mut parts.headers);
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// Takes the destination out of the request's line and makes the rest what its server expects.
fn address<B>(request: Request<B>) -> Result<(String, u16, Request<B>), Denial> {
    let (mut parts, body) = request.into_parts();
    let authority = parts
        .uri
        .authority()
        .filter(|_| parts.uri.scheme() == Some(&Scheme::HTTP))
        .ok_or(Denial::Malformed)?;
    let (host, port) = (
        authority.host().to_owned(),
        authority.port_u16().unwrap_or(HTTP_PORT),
    );
    let name = if port == HTTP_PORT {
        host.clone()
    } else {
        format!("{host}:{port}")
    };
    strip(&mut parts.headers);
    // One name for the check, the connection and the server: the header must not say another.
    parts.headers.insert(
        HOST,
        HeaderValue::from_str(&name).map_err(|_| Denial::Malformed)?,
    );
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse::<Uri>().map_err(|_| Denial::Malformed)?;
    Ok((host, port, Request::from_parts(parts, body)))
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_decides_and_not_the_header() {
        let request = Request::get("http://allowed.example:8080/a?b=c")
            .header("host", "evil.example")
            .header("proxy-authorization", "secret")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .body(())
            .unwrap();
        let (host, port, request) = address(request).unwrap();
        assert_eq!((host.as_str(), port), ("allowed.example", 8080));
        assert_eq!(request.uri(), "/a?b=c");
        assert_eq!(request.headers()["host"], "allowed.example:8080");
        assert_eq!(request.headers().len(), 1);
    }

    #[test]
    fn only_plain_http_is_forwarded() {
        for line in ["/path", "https://a.example/", "ftp://a.example/"] {
            assert!(
                address(Request::get(line).body(()).unwrap()).is_err(),
                "{line}"
            );
        }
    }
}
