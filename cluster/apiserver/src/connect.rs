//! Logs, exec, attach and port-forward: the authorized request is passed to the pod's node, and after an upgrade byte for byte.

use std::time::Duration;

use bytes::Bytes;
use futures::TryFutureExt;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::api::Api;
use crate::api::call::Call;
use crate::response::Body;
use crate::status::ApiError;

/// How long the node may take to answer the connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers that belong to the client's connection and not to its request.
const OWN_HEADERS: [http::HeaderName; 2] = [AUTHORIZATION, HOST];

/// Passes the request for a subresource of a pod to its node.
pub(crate) async fn tunnel(call: &mut Call, subresource: &str) -> Result<Response<Body>, ApiError> {
    let pod = call
        .api
        .store
        .get("/pods", &call.key())
        .ok_or_else(|| call.not_found())?
        .value();
    let path = node_path(call, &pod, subresource)?;
    let address = node_address(&call.api, call.name(), &pod)?;
    let request = node_request(call, &address, &path)?;
    let wants_upgrade = call.headers().contains_key(UPGRADE);
    let dial = async {
        let stream = TcpStream::connect(&address)
            .await
            .map_err(|error| error.to_string())?;
        drop(stream.set_nodelay(true));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        call.api.tasks.spawn(
            connection
                .with_upgrades()
                .unwrap_or_else(|error| tracing::debug!(%error, "node connection ended")),
        );
        Ok::<_, String>(sender.send_request(request))
    };
    let failed = |why: String| {
        ApiError::internal(format!("error dialing backend: dial tcp {address}: {why}"))
    };
    let sent = tokio::time::timeout(DIAL_TIMEOUT, dial)
        .await
        .map_err(|_| failed("i/o timeout".to_owned()))?;
    let answer = sent
        .map_err(&failed)?
        .await
        .map_err(|error| failed(error.to_string()))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS || !wants_upgrade {
        return Ok(pass(answer));
    }
    Ok(upgrade(call, answer))
}

/// A plain answer, as it comes.
fn pass(answer: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    for name in [CONNECTION, http::header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    Response::from_parts(parts, body.map_err(Into::into).boxed_unsync())
}

/// Joins both connections once both sides switched protocols.
fn upgrade(call: &mut Call, mut answer: Response<Incoming>) -> Response<Body> {
    let mut parts = Request::new(());
    *parts.extensions_mut() = std::mem::take(&mut call.parts.extensions);
    let client = hyper::upgrade::on(parts);
    let node = hyper::upgrade::on(&mut answer);
    let shutdown = call.api.shutdown.clone();
    call.api.tasks.spawn(async move {
        let (client, node) = match tokio::try_join!(client, node) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "an upgrade failed");
                return;
            }
        };
        let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
        tokio::select! {
            outcome = tokio::io::copy_bidirectional(&mut client, &mut node) => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "a stream broke off");
                }
            }
            () = shutdown.cancelled() => {}
        }
    });
    let (parts, _) = answer.into_parts();
    let empty = Full::new(Bytes::new())
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::from_parts(parts, empty)
}

fn node_request(call: &Call, address: &str, path: &str) -> Result<Request<Full<Bytes>>, ApiError> {
    let query = call
        .parts
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let mut headers = HeaderMap::new();
    for (name, value) in call
        .headers()
        .iter()
        .filter(|(name, _)| !OWN_HEADERS.contains(name))
    {
        headers.append(name.clone(), value.clone());
    }
    let fault = |_| ApiError::bad_request("the request cannot be passed to the node");
    let bearer = HeaderValue::from_str(&format!("Bearer {}", call.api.node_token))
        .map_err(|_| ApiError::internal("the node token is no header"))?;
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(
        HOST,
        HeaderValue::from_str(address)
            .map_err(|_| ApiError::internal("the node's address is no host"))?,
    );
    let mut request = Request::builder()
        .method(call.parts.method.clone())
        .uri(format!("{path}{query}"))
        .body(Full::new(call.body.clone()))
        .map_err(fault)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The path of the kubelet's API that serves the subresource.
fn node_path(call: &Call, pod: &Value, subresource: &str) -> Result<String, ApiError> {
    let (namespace, name) = (call.namespace().unwrap_or_default(), call.name());
    let endpoint = match subresource {
        "log" => "containerLogs",
        "portforward" => return Ok(format!("/portForward/{namespace}/{name}")),
        other => other,
    };
    Ok(format!(
        "/{endpoint}/{namespace}/{name}/{}",
        container(call, pod)?
    ))
}

fn container(call: &Call, pod: &Value) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers
            .filter_map(|container| container["name"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let all = [main.clone(), init.clone(), names("ephemeralContainers")].concat();
    let wanted = call.query.get("container").map(str::to_owned);
    let preferred = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"]
        .as_str()
        .map(str::to_owned);
    match wanted.or(preferred) {
        Some(wanted) if all.contains(&wanted) => Ok(wanted),
        Some(wanted) => Err(ApiError::bad_request(format!(
            "container {wanted} is not valid for pod {}",
            call.name()
        ))),
        None if main.len() == 1 => Ok(main.concat()),
        None => {
            let mut why = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                call.name(),
                main.join(" ")
            );
            if !init.is_empty() {
                why.push_str(&format!(
                    " or one of the init containers: [{}]",
                    init.join(" ")
                ));
            }
            Err(ApiError::bad_request(why))
        }
    }
}

fn node_address(api: &Api, name: &str, pod: &Value) -> Result<String, ApiError> {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    let found = api
        .store
        .get("/nodes", node)
        .ok_or_else(|| ApiError::not_found("", "nodes", node))?
        .value();
    let addresses = found["status"]["addresses"]
        .as_array()
        .into_iter()
        .flatten();
    let host = addresses
        .into_iter()
        .find(|address| address["type"] == "InternalIP")
        .and_then(|address| address["address"].as_str());
    let port = found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    match (host, port) {
        (Some(host), Some(port)) => Ok(format!("{host}:{port}")),
        _ => Err(ApiError::unavailable(format!(
            "node {node} does not say where its API is"
        ))),
    }
}
