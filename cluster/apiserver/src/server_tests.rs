//! The server over its wire: TLS with its own CA, ready soon, and upgrades joined with the node.

use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::{Pki, ServerConfig, serve};

/// A server on a free port.
struct Running {
    pki: Pki,
    port: u16,
    shutdown: CancellationToken,
    serving: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(&folder.path().join("pki")).unwrap();
        let again = Pki::load_or_create(&folder.path().join("pki")).unwrap();
        assert_eq!(again.ca_pem, pki.ca_pem, "keys are made once");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = ServerConfig {
            data_dir: Some(folder.path().join("data")),
            pki: pki.clone(),
            advertise_url: format!("https://127.0.0.1:{port}"),
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move { serve(config, listener, stop).await.unwrap() });
        Self {
            pki,
            port,
            shutdown,
            serving,
            _folder: folder,
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut self.pki.ca_pem.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    fn request(&self, line: &str, more: &str, body: &str) -> String {
        let (token, length) = (&self.pki.admin_token, body.len());
        format!(
            "{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{more}content-length: {length}\r\n\r\n{body}"
        )
    }

    /// Sends one request on a connection of its own and returns all that comes back.
    async fn ask(&self, line: &str, content_type: &str, body: &str) -> String {
        let mut stream = self.connect().await;
        let more = format!("connection: close\r\ncontent-type: {content_type}\r\n");
        stream
            .write_all(self.request(line, &more, body).as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        // The server may close without a last TLS message.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.serving.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test]
async fn the_server_answers_over_tls_soon_after_its_start() {
    let start = Instant::now();
    let running = Running::start().await;
    let answer = running.ask("GET /readyz", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    running.stop().await;
}

#[tokio::test]
async fn an_upgraded_request_is_joined_with_the_node_byte_for_byte() {
    let running = Running::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut node = JoinSet::new();
    node.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(switch).await.unwrap();
        let mut said = [0; 4];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        assert_eq!(&said, b"ping");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let json = "application/json";
    running
        .ask("POST /api/v1/nodes", json, r#"{"metadata":{"name":"n"}}"#)
        .await;
    let status = format!(
        r#"{{"status":{{"addresses":[{{"type":"InternalIP","address":"127.0.0.1"}}],"daemonEndpoints":{{"kubeletEndpoint":{{"Port":{port}}}}}}}}}"#
    );
    running
        .ask(
            "PATCH /api/v1/nodes/n/status",
            "application/merge-patch+json",
            &status,
        )
        .await;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i:1"}]}}"#;
    running
        .ask("POST /api/v1/namespaces/default/pods", json, pod)
        .await;
    let mut stream = running.connect().await;
    let more = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n";
    let line = "GET /api/v1/namespaces/default/pods/p/exec?command=cat&stdin=true";
    stream
        .write_all(running.request(line, more, "").as_bytes())
        .await
        .unwrap();
    let mut head = vec![0; 4096];
    let length = stream.read(&mut head).await.unwrap();
    assert!(
        head[..length].starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&head[..length])
    );
    stream.write_all(b"ping").await.unwrap();
    let mut said = [0; 4];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"pong");
    let request = node.join_next().await.unwrap().unwrap();
    assert!(
        request.starts_with("GET /exec/default/p/c?command=cat&stdin=true HTTP/1.1"),
        "{request}"
    );
    assert!(request.contains("upgrade: websocket"), "{request}");
    drop(stream);
    running.stop().await;
}
