//! One check of a container: an HTTP request, a TCP connection or a command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::runtime::{ExecRequest, RunningContainer};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How much of a failing answer or output is told.
const EXCERPT_BYTES_MAX: usize = 1024;
const BODY_BYTES_MAX: usize = 10 * 1024;

/// The container that is checked.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) container: Arc<dyn RunningContainer>,
    /// Named container ports.
    pub(crate) ports: BTreeMap<String, u16>,
}

/// Checks once; the error says what was wrong.
pub(crate) async fn check(probe: &Probe, target: &Target) -> Result<(), String> {
    if let Some(get) = &probe.http_get {
        return http_get(get, target).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        return connect(tcp.host.as_deref(), &tcp.port, target)
            .await
            .map(drop);
    }
    if let Some(exec) = &probe.exec {
        return run(exec, target).await;
    }
    if probe.grpc.is_some() {
        return Err("this node has no grpc probes".to_owned());
    }
    Ok(())
}

/// Asks for a page; below 400 is well.
pub(crate) async fn http_get(get: &HTTPGetAction, target: &Target) -> Result<(), String> {
    if get
        .scheme
        .as_deref()
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    {
        // The kubelet does not verify certificates either; a handshake would tell no more than the connection does.
        return connect(get.host.as_deref(), &get.port, target)
            .await
            .map(drop);
    }
    let stream = connect(get.host.as_deref(), &get.port, target).await?;
    let path = get
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let mut request = Request::get(path)
        .header("User-Agent", "kube-probe/quarterdeck")
        .header("Accept", "*/*");
    let given = get.http_headers.iter().flatten();
    for header in given.clone() {
        request = request.header(&header.name, &header.value);
    }
    if !given
        .clone()
        .any(|header| header.name.eq_ignore_ascii_case("host"))
    {
        let host = stream
            .peer_addr()
            .map(|address| address.to_string())
            .unwrap_or_default();
        request = request.header("Host", host);
    }
    let request = request
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
                .collect()
                .await;
            Ok::<_, hyper::Error>((
                status,
                body.map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default(),
            ))
        };
        // The connection is driven only as long as the answer takes.
        let (connection, answer) = (connection.fuse(), answer);
        futures::pin_mut!(connection, answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            result = &mut connection => { result?; answer.await }
        }
    };
    let (status, body) = exchange
        .await
        .map_err(|error| format!("Get \"{path}\": {error}"))?;
    if status.as_u16() < 400 {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES_MAX)]).into_owned();
    Err(format!(
        "HTTP probe failed with statuscode: {} {}",
        status.as_u16(),
        text.trim()
    )
    .trim_end()
    .to_owned())
}

/// Runs a command; exit code 0 is well.
pub(crate) async fn run(exec: &ExecAction, target: &Target) -> Result<(), String> {
    let command = exec.command.clone().unwrap_or_default();
    let request = ExecRequest {
        command,
        stdin: false,
        tty: false,
    };
    let session = target
        .container
        .exec(request)
        .await
        .map_err(|error| error.to_string())?;
    let mut output = Vec::new();
    let read = async {
        for stream in [session.stdout, session.stderr].into_iter().flatten() {
            // Output that cannot be read does not change whether the command succeeds.
            drop(
                stream
                    .take(EXCERPT_BYTES_MAX as u64)
                    .read_to_end(&mut output)
                    .await,
            );
        }
    };
    let (ended, ()) = tokio::join!(session.ended, read);
    let ended = ended.map_err(|error| error.to_string())?;
    if ended.code == 0 {
        return Ok(());
    }
    Err(format!(
        "command exited with {}: {}",
        ended.code,
        String::from_utf8_lossy(&output).trim()
    ))
}

async fn connect(
    host: Option<&str>,
    port: &IntOrString,
    target: &Target,
) -> Result<TcpStream, String> {
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => name
            .parse()
            .ok()
            .or_else(|| target.ports.get(name).copied()),
    };
    let number = number.ok_or_else(|| format!("there is no port {port:?}"))?;
    let stream = match host.filter(|host| !host.is_empty()) {
        Some(host) => match timeout(CONNECT_LIMIT, TcpStream::connect((host, number))).await {
            Ok(stream) => stream,
            Err(_) => {
                return Err(format!(
                    "dial tcp {host}:{number}: no answer within {CONNECT_LIMIT:?}"
                ));
            }
        },
        None => target.container.connect(number, CONNECT_LIMIT).await,
    };
    stream.map_err(|error| format!("dial tcp port {number}: {error}"))
}
