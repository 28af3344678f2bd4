//! Another gateway: a client of gRPC over HTTP/2.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::super::{
    accept,
    grpc::{Messages, encode},
    message::{
        HeaderMap as Shown, HeaderValue, HttpBody, HttpHeaders, ProcessingRequest,
        ProcessingResponse, Shown as Part, Told,
    },
};
use crate::tests::harness::Harness;

/// The bodies of requests.
type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A connection to the endpoint picker of a gateway.
pub(super) struct Client {
    sender: SendRequest<Body>,
    _tasks: JoinSet<()>,
}

/// One request that is shown.
pub(super) struct Call {
    parts: mpsc::UnboundedSender<Frame<Bytes>>,
    replies: Messages<Incoming>,
}

impl Client {
    pub(super) async fn of(harness: &Harness) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let gateway = Arc::clone(&harness.gateway);
        tasks.spawn(accept(listener, gateway, harness.shutdown.clone()));
        let stream = TcpStream::connect(address).await.unwrap();
        let connecting = handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = connecting.await.unwrap();
        tasks.spawn(async move { connection.await.unwrap_or_default() });
        Self {
            sender,
            _tasks: tasks,
        }
    }

    async fn post(&self, path: &str, body: Body) -> http::Response<Incoming> {
        let request = Request::post(format!("http://picker{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        self.sender.clone().send_request(request).await.unwrap()
    }

    /// The status of a call of one message, and the message that it is answered with.
    pub(super) async fn ask<M: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
    ) -> (String, Option<M>) {
        let body = http_body_util::Full::new(encode(message)).boxed_unsync();
        let (head, body) = self.post(path, body).await.into_parts();
        let body = body.collect().await.unwrap();
        let status = |headers: &HeaderMap| {
            let status = headers.get("grpc-status")?.to_str().ok()?;
            Some(status.to_owned())
        };
        let found = body.trailers().and_then(status);
        let status = found.or_else(|| status(&head.headers)).unwrap();
        let bytes = body.to_bytes();
        let message = bytes.get(5..).map(|message| M::decode(message).unwrap());
        (status, message)
    }

    /// Begins to show a request.
    pub(super) async fn call(&self) -> Call {
        let (parts, shown) = mpsc::unbounded();
        let body = StreamBody::new(shown.map(Ok)).boxed_unsync();
        let path = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
        let response = self.post(path, body).await;
        assert_eq!(response.headers()["content-type"], "application/grpc");
        Call {
            parts,
            replies: Messages::new(response.into_body(), 8 << 20),
        }
    }
}

impl Call {
    pub(super) fn send(&self, request: &ProcessingRequest) {
        let frame = Frame::data(encode(request));
        self.parts.unbounded_send(frame).unwrap();
    }

    pub(super) fn show(&self, part: Part) {
        self.send(&ProcessingRequest {
            shown: Some(part),
            ..ProcessingRequest::default()
        });
    }

    /// The next reply; `None` at the end of the call.
    pub(super) async fn reply(&mut self) -> Option<ProcessingResponse> {
        self.replies.next(None).await.unwrap()
    }

    /// What the next reply tells.
    pub(super) async fn told(&mut self) -> Told {
        self.reply().await.unwrap().told.unwrap()
    }

    /// Shows nothing more, and waits for the end.
    pub(super) async fn close(self) {
        let Self { parts, mut replies } = self;
        drop(parts);
        let rest: Option<ProcessingResponse> = replies.next(None).await.unwrap();
        assert_eq!(rest, None);
    }
}

/// A head with these headers.
pub(super) fn head(headers: &[(&str, &str)]) -> HttpHeaders {
    let headers = headers.iter().map(|(key, value)| HeaderValue {
        key: (*key).to_owned(),
        value: String::new(),
        raw_value: Bytes::copy_from_slice(value.as_bytes()),
    });
    HttpHeaders {
        headers: Some(Shown {
            headers: headers.collect(),
        }),
        end_of_stream: false,
    }
}

/// A piece of a body.
pub(super) fn piece(text: &str, end_of_stream: bool) -> HttpBody {
    HttpBody {
        body: Bytes::copy_from_slice(text.as_bytes()),
        end_of_stream,
    }
}
