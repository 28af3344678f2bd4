//! A client of the protocol that sees every byte.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use protocol::sse::Parser;
use serde_json::{Value, json};

use crate::tests::harness::Harness;

/// A client; with a session if it has shaken hands.
pub(super) struct Client<'a> {
    pub(super) harness: &'a Harness,
    pub(super) path: String,
    pub(super) key: &'static str,
    pub(super) session: Option<String>,
    pub(super) version: &'static str,
}

/// What a client got.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

/// Messages as they come.
pub(super) struct Messages {
    body: Incoming,
    parser: Parser,
    ready: Vec<String>,
}

impl Got {
    /// The messages, of a stream or of one body.
    pub(super) fn messages(&self) -> Vec<Value> {
        if self.headers["content-type"] == "text/event-stream" {
            let events = Parser::new(1 << 20).push(self.text.as_bytes()).unwrap();
            let parse = |event: protocol::sse::Event| serde_json::from_str(&event.data).unwrap();
            return events.into_iter().map(parse).collect();
        }
        vec![serde_json::from_str(&self.text).unwrap()]
    }

    /// The last message.
    pub(super) fn answer(&self) -> Value {
        self.messages().pop().unwrap()
    }
}

impl Messages {
    pub(super) fn of(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            parser: Parser::new(1 << 20),
            ready: Vec::new(),
        }
    }

    /// The next message; nothing at the end.
    pub(super) async fn next(&mut self) -> Option<Value> {
        while self.ready.is_empty() {
            let frame = self.body.frame().await?.unwrap();
            let events = self.parser.push(&frame.into_data().unwrap()).unwrap();
            self.ready
                .extend(events.into_iter().map(|event| event.data));
        }
        Some(serde_json::from_str(&self.ready.remove(0)).unwrap())
    }
}

impl<'a> Client<'a> {
    /// A client that has not said anything yet.
    pub(super) fn new(harness: &'a Harness, path: &str, key: &'static str) -> Self {
        Self {
            harness,
            path: path.to_owned(),
            key,
            session: None,
            version: "2025-11-25",
        }
    }

    /// A client of today's revision.
    pub(super) fn stateless(harness: &'a Harness, path: &str, key: &'static str) -> Self {
        Self {
            version: "2026-07-28",
            ..Self::new(harness, path, key)
        }
    }

    /// A client with a session.
    pub(super) async fn open(harness: &'a Harness, path: &str, key: &'static str) -> Self {
        let mut client = Self::new(harness, path, key);
        client.initialize("2025-11-25").await;
        client
    }

    /// Shakes hands; returns the revision that the gateway speaks.
    pub(super) async fn initialize(&mut self, version: &str) -> String {
        let params = json!({"protocolVersion": version, "capabilities": {"sampling": {}},
            "clientInfo": {"name": "raw", "version": "1"}});
        let got = self.post(&request(1, "initialize", &params)).await;
        assert_eq!(got.status, 200, "{got:?}");
        let session = got.headers["mcp-session-id"].to_str().unwrap();
        self.session = Some(session.to_owned());
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let accepted = self.post(&initialized.to_string()).await;
        assert_eq!((accepted.status, accepted.text.as_str()), (202, ""));
        got.answer()["result"]["protocolVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Asks something by the client's revision; the answer.
    pub(super) async fn ask(&self, method: &str, params: &Value) -> Value {
        let got = self.send(method, params).await;
        assert_eq!(got.status, 200, "{got:?}");
        got.answer()
    }

    /// Asks something by the client's revision.
    pub(super) async fn send(&self, method: &str, params: &Value) -> Got {
        collect(self.start(method, params).await).await
    }

    /// Asks something by the client's revision, and reads the head of the answer.
    pub(super) async fn start(&self, method: &str, params: &Value) -> Response<Incoming> {
        let mut params = params.clone();
        let mut headers = Vec::new();
        if self.version == "2026-07-28" {
            let meta = &mut params["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = json!(self.version);
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "raw", "version": "1"});
            headers.push(("mcp-method", method.to_owned()));
            let name = params["name"].as_str().or(params["uri"].as_str());
            headers.extend(name.map(|name| ("mcp-name", name.to_owned())));
        }
        self.exchange("POST", &headers, &request(7, method, &params))
            .await
    }

    /// Sends a body.
    pub(super) async fn post(&self, body: &str) -> Got {
        collect(self.exchange("POST", &[], body).await).await
    }

    /// Sends a request.
    pub(super) async fn exchange(
        &self,
        method: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.harness.url(&self.path))
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .header("mcp-protocol-version", self.version);
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let body = Full::new(Bytes::from(body.to_owned()));
        self.harness.raw(request.body(body).unwrap()).await
    }
}

pub(super) fn request(id: u64, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

pub(super) async fn collect(response: Response<Incoming>) -> Got {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Got {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}
