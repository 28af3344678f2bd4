//! The floor: a bare proxy on hyper that checks one key, finds the model and passes everything on.
//!
//! What it costs is what two hops of HTTP/1.1 cost; a gateway's own work comes on top.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use protocol::key::hash_key;
use tokio::{net::TcpListener, task::JoinSet};

use super::script::{KEY, MODEL};

/// What the proxy is between.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Port of the loopback interface to listen on
    #[arg(long)]
    port: u16,
    /// Port of the upstream
    #[arg(long)]
    upstream: u16,
}

struct Proxy {
    key_hash: String,
    /// Where a model's chats go.
    routes: HashMap<Vec<u8>, Uri>,
    client: Client<HttpConnector, Full<Bytes>>,
}

type Body = Either<Full<Bytes>, Incoming>;

/// Serves until the process is ended.
pub(crate) fn run(args: &Args) -> Result<()> {
    let chats = format!("http://127.0.0.1:{}/v1/chat/completions", args.upstream);
    let chats = chats.parse().context("making the upstream's address")?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Arc::new(Proxy {
        key_hash: hash_key(KEY),
        routes: HashMap::from([(MODEL.as_bytes().to_vec(), chats)]),
        client: Client::builder(TokioExecutor::new()).build(connector),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(serve(args.port, proxy))
}

async fn serve(port: u16, proxy: Arc<Proxy>) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await;
    let listener = listener.context("listening as the floor")?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.context("accepting a connection")?,
            Some(_) = connections.join_next() => continue,
        };
        stream.set_nodelay(true).context("preparing a connection")?;
        let proxy = Arc::clone(&proxy);
        connections.spawn(async move {
            let service = service_fn(|request| answer(&proxy, request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connection.await
        });
    }
}

async fn answer(proxy: &Proxy, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let answer = forward(proxy, request).await;
    Ok(answer.unwrap_or_else(|status| {
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = status;
        response
    }))
}

async fn forward(proxy: &Proxy, request: Request<Incoming>) -> Result<Response<Body>, StatusCode> {
    if request.method() == Method::GET {
        return Ok(Response::new(Either::Left(Full::default())));
    }
    let (head, body) = request.into_parts();
    let key = bearer(&head.headers).ok_or(StatusCode::UNAUTHORIZED)?;
    if hash_key(key) != proxy.key_hash {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let body = body.collect().await;
    let body = body.map_err(|_| StatusCode::BAD_REQUEST)?.to_bytes();
    let model = model(&body).ok_or(StatusCode::BAD_REQUEST)?;
    let route = proxy.routes.get(model).ok_or(StatusCode::NOT_FOUND)?;
    let request = Request::post(route.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body));
    let request = request.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let response = proxy.client.request(request).await;
    let (mut head, body) = response.map_err(|_| StatusCode::BAD_GATEWAY)?.into_parts();
    // Of this hop only.
    head.headers.remove(header::CONNECTION);
    head.headers.remove(header::TRANSFER_ENCODING);
    Ok(Response::from_parts(head, Either::Right(body)))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ")
}

/// The value of the first `"model"`, as far as it is read to find it.
fn model(body: &[u8]) -> Option<&[u8]> {
    const FIELD: &[u8] = b"\"model\":\"";
    let start = body.windows(FIELD.len()).position(|text| text == FIELD)? + FIELD.len();
    let end = body[start..].iter().position(|byte| *byte == b'"')?;
    Some(&body[start..start + end])
}

#[cfg(test)]
mod tests {
    use super::model;

    #[test]
    fn the_model_is_found_without_reading_the_rest() {
        assert_eq!(
            model(b"{\"model\":\"bench\",\"messages\":["),
            Some(&b"bench"[..])
        );
        assert_eq!(model(b"{\"messages\":[]}"), None);
    }
}
