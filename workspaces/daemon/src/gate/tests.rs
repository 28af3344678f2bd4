use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use axum::body::Body;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use protocol::workspace::Fault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tower::ServiceExt;

use super::*;
use crate::gate::egress::Network;

/// The gate's folder of a test.
fn own(dir: &Path) -> Arc<Folder> {
    Arc::new(Folder::open(&dir.join("own")).unwrap())
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A network of names that all lead, whatever their address, to one local server.
#[derive(Debug)]
struct MadeUpNetwork {
    names: BTreeMap<&'static str, &'static str>,
    server: SocketAddr,
}

impl Network for MadeUpNetwork {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let address = self
            .names
            .get(host)
            .map(|address| SocketAddr::new(address.parse().unwrap(), port));
        Box::pin(async move {
            address
                .map(|address| vec![address])
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn connect(&self, _address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.server))
    }
}

/// A proxy on a socket, and a server that answers everything with what it was sent.
struct WayOut {
    dir: tempfile::TempDir,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl WayOut {
    async fn new(allow: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let network = MadeUpNetwork {
            names: [
                ("good.example", "93.184.216.34"),
                ("inner.example", "10.0.0.1"),
                ("self.example", "127.0.0.1"),
                ("metadata.example", "169.254.169.254"),
            ]
            .into(),
            server: server.local_addr().unwrap(),
        };
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(echo(server, shutdown.clone()));
        let listener = UnixListener::bind(dir.path().join("egress.sock")).unwrap();
        let config = ProxyConfig {
            allow: AllowList::parse(allow).unwrap(),
            network: Arc::new(network),
        };
        let proxy = Proxy::new(config, Arc::new(Audit::open(own(dir.path())).unwrap()));
        tasks.spawn(proxy.run(listener, shutdown.clone()));
        Self {
            dir,
            shutdown,
            tasks,
        }
    }

    /// Sends text and answers with the first piece that comes back.
    async fn say(&self, text: &str) -> (UnixStream, String) {
        let mut stream = UnixStream::connect(self.dir.path().join("egress.sock"))
            .await
            .unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = hear(&mut stream).await;
        (stream, answer)
    }

    async fn connect(&self, host: &str) -> String {
        let (_stream, answer) = self
            .say(&format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        answer.lines().next().unwrap_or_default().to_owned()
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("own/audit.jsonl")).unwrap()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn hear(stream: &mut UnixStream) -> String {
    let mut buffer = vec![0; 4_096];
    let count = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

async fn echo(server: TcpListener, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            accepted = server.accept() => {
                let (mut stream, _) = accepted.unwrap();
                connections.spawn(async move {
                    let mut buffer = vec![0; 4_096];
                    let count = stream.read(&mut buffer).await.unwrap();
                    let head = if buffer.starts_with(b"GET") { format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n") } else { String::new() };
                    stream.write_all(head.as_bytes()).await.unwrap();
                    stream.write_all(&buffer[..count]).await.unwrap();
                });
            }
            () = shutdown.cancelled() => return,
        }
    }
}

#[tokio::test]
async fn only_listed_domains_with_public_addresses_are_reached() {
    let way_out = WayOut::new(&[
        "good.example",
        "inner.example",
        "self.example",
        "metadata.example",
        "none.example",
    ])
    .await;
    assert_eq!(way_out.connect("good.example:443").await, "HTTP/1.1 200 OK");
    for refused in [
        "good.example:22",
        "other.example:443",
        "inner.example:443",
        "self.example:443",
        "metadata.example:80",
        "none.example:443",
        "93.184.216.34:443",
        "[::1]:443",
        "127.0.0.1:80",
        "169.254.169.254:80",
        "2130706433:80",
    ] {
        assert_eq!(
            way_out.connect(refused).await,
            "HTTP/1.1 403 Forbidden",
            "{refused}"
        );
    }
    let audit = way_out.audit();
    assert_eq!(audit.lines().count(), 12, "{audit}");
    assert!(audit.contains(r#""host":"good.example","port":443,"allowed":true,"reason":null,"address":"93.184.216.34""#), "{audit}");
    assert!(audit.contains(r#""host":"metadata.example","port":80,"allowed":false,"reason":"the domain leads to a private address""#), "{audit}");
    way_out.end().await;
}

#[tokio::test]
async fn nothing_is_reached_without_a_list() {
    let way_out = WayOut::new(&[]).await;
    assert_eq!(
        way_out.connect("good.example:443").await,
        "HTTP/1.1 403 Forbidden"
    );
    let (_stream, answer) = way_out
        .say("GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("not on the workspace's allow list"),
        "{answer}"
    );
    way_out.end().await;
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways() {
    let way_out = WayOut::new(&["good.example"]).await;
    let (mut stream, answer) = way_out
        .say("CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut stream).await, "hello");
    drop(stream);
    way_out.end().await;
}

#[tokio::test]
async fn a_tunnel_for_another_server_name_is_closed() {
    use crate::gate::egress::tests_hello_for as hello_for;
    let way_out = WayOut::new(&["good.example"]).await;
    let open = "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n";
    let (mut stream, _) = way_out.say(open).await;
    stream.write_all(&hello_for("good.example")).await.unwrap();
    assert!(hear(&mut stream).await.contains("good.example"));
    let (mut stream, _) = way_out.say(open).await;
    stream
        .write_all(&hello_for("hidden.example"))
        .await
        .unwrap();
    assert_eq!(hear(&mut stream).await, "");
    assert!(
        way_out
            .audit()
            .contains("the TLS server name is not the domain of the tunnel")
    );
    way_out.end().await;
}

#[tokio::test]
async fn plain_http_goes_where_its_line_says() {
    let way_out = WayOut::new(&["good.example"]).await;
    let (_stream, answer) =
        way_out.say("GET http://good.example/path HTTP/1.1\r\nHost: evil.example\r\nProxy-Authorization: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let sent = answer.to_ascii_lowercase();
    assert!(
        sent.contains("get /path http/1.1") && sent.contains("host: good.example"),
        "{answer}"
    );
    assert!(
        !sent.contains("evil") && !sent.contains("proxy-authorization"),
        "{answer}"
    );
    way_out.end().await;
}

/// A gate before a made-up first process that counts how often it is asked to run something.
struct Door {
    dir: tempfile::TempDir,
    runs: Arc<std::sync::atomic::AtomicUsize>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Door {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let listener = UnixListener::bind(dir.path().join("init.sock")).unwrap();
        let counter = Arc::clone(&runs);
        let run = move || async move {
            let count = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            format!(
                "{{\"type\":\"started\",\"pid\":{count}}}\n{{\"type\":\"exit\",\"code\":{count},\"timedOut\":false,\"truncated\":false}}\n"
            )
        };
        let router = axum::Router::new()
            .route("/v1/exec", axum::routing::post(run))
            .route(
                "/v1/info",
                axum::routing::get(|headers: http::HeaderMap| async move {
                    format!("{}", headers.contains_key("authorization"))
                }),
            );
        let stop = shutdown.clone().cancelled_owned();
        tasks.spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stop)
                .await
                .unwrap();
        });
        Self {
            dir,
            runs,
            shutdown,
            tasks,
        }
    }

    /// A gate over the same folder, as after a restart.
    fn gate(&self) -> axum::Router {
        let audit = Arc::new(Audit::open(own(self.dir.path())).unwrap());
        let results = Results::open(&own(self.dir.path())).unwrap();
        api::router(Gate::new(
            TOKEN.to_owned(),
            InitClient::new(self.dir.path(), self.tasks.clone()),
            audit,
            results,
            self.tasks.clone(),
            self.shutdown.clone(),
        ))
    }

    async fn exec(&self, gate: &axum::Router, body: &str) -> (StatusCode, String) {
        send(
            gate,
            Request::post("/v1/exec").header("content-type", "application/json"),
            TOKEN,
            body,
        )
        .await
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn send(
    gate: &axum::Router,
    request: http::request::Builder,
    token: &str,
    body: &str,
) -> (StatusCode, String) {
    let request = request
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = gate.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (
        status,
        String::from_utf8(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        )
        .unwrap(),
    )
}

#[tokio::test]
async fn everything_but_health_needs_the_token() {
    let door = Door::new();
    let gate = door.gate();
    for path in ["/v1/info", "/v1/files?path=a", "/v1/files/list?path=."] {
        let (status, body) = send(&gate, Request::get(path), "wrong", "").await;
        let fault: Fault = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, fault.code.as_str()),
            (StatusCode::UNAUTHORIZED, "unauthorized"),
            "{path}"
        );
    }
    let (status, body) = send(&gate, Request::get("/v1/info"), TOKEN, "").await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, "false"),
        "the token must not reach the workspace"
    );
    let (status, _) = send(&gate, Request::get("/healthz"), "", "").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = send(&gate, Request::get("/readyz"), "", "").await;
    assert_eq!(status, StatusCode::OK);
    door.end().await;
}

#[tokio::test]
async fn a_repeat_answers_the_first_result_also_after_a_restart() {
    let door = Door::new();
    let request = r#"{"command":["work"],"id":"step-1"}"#;
    let gate = door.gate();
    let (status, first) = door.exec(&gate, request).await;
    assert_eq!(status, StatusCode::OK);
    assert!(first.contains("\"code\":1"), "{first}");
    assert_eq!(door.exec(&gate, request).await.1, first);
    assert_eq!(door.exec(&door.gate(), request).await.1, first);
    let (status, _) = door
        .exec(&gate, r#"{"command":["other"],"id":"step-1"}"#)
        .await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(door.runs.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert!(
        door.exec(&gate, r#"{"command":["work"]}"#)
            .await
            .1
            .contains("\"code\":2")
    );
    let audit = std::fs::read_to_string(door.dir.path().join("own/audit.jsonl")).unwrap();
    assert_eq!(audit.lines().count(), 4, "{audit}");
    assert!(
        audit.contains(r#""command":["work"]"#) && audit.contains(r#""repeated":true"#),
        "{audit}"
    );
    door.end().await;
}

#[tokio::test]
async fn a_workspace_that_is_down_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::open(own(dir.path())).unwrap());
    let results = Results::open(&own(dir.path())).unwrap();
    let gate = api::router(Gate::new(
        TOKEN.to_owned(),
        InitClient::new(dir.path(), TaskTracker::new()),
        audit,
        results,
        TaskTracker::new(),
        CancellationToken::new(),
    ));
    let (status, body) = send(&gate, Request::get("/v1/info"), TOKEN, "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    let (status, body) = send(
        &gate,
        Request::post("/v1/exec").header("content-type", "application/json"),
        TOKEN,
        "{",
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
}
