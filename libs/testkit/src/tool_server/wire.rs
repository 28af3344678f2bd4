//! The transport: messages in, answers and streams out, sessions.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use protocol::sse::Event;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Received, Revision, Shared, methods};

const SESSION_ID: &str = "mcp-session-id";

/// `POST`.
pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    note(&shared, &Method::POST, &headers, &body);
    if let Some(refusal) = refusal(&shared, &headers, &body) {
        return refusal;
    }
    let instead = shared.instead.lock().pop_front();
    if let Some((status, content_type, body)) = instead {
        return (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
    }
    if body["method"].is_null() {
        let id = body["id"].as_str().unwrap_or_default();
        let asked = shared.asked.lock().remove(id);
        if let Some(asked) = asked {
            // Whoever asked may have gone.
            let _ = asked.send(body);
        }
        return StatusCode::ACCEPTED.into_response();
    }
    if body["id"].is_null() {
        if body["method"] == "notifications/cancelled" {
            shared.cancelled.send_modify(|cancelled| *cancelled += 1);
        }
        return StatusCode::ACCEPTED.into_response();
    }
    if body["method"] == "subscriptions/listen" {
        let acknowledged = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": body["id"]}}});
        return events(stream::iter([acknowledged]).chain(announcements(&shared)));
    }
    let (outbox, mut inbox) = mpsc::unbounded_channel();
    let answering = methods::answer(Arc::clone(&shared), body.clone(), outbox.clone());
    let is_stream = shared.behaviour.streams || methods::is_long(&body);
    if is_stream {
        let answering = async move {
            if let Some(answer) = answering.await {
                // The client may have gone.
                let _ = outbox.send(answer);
            }
        };
        // The answer is made while the stream is read, and ends with it.
        let mut answering = Box::pin(answering);
        let mut is_done = false;
        let messages = stream::poll_fn(move |context| {
            if !is_done && answering.as_mut().poll(context).is_ready() {
                is_done = true;
                inbox.close();
            }
            inbox.poll_recv(context)
        });
        return with_session(&shared, &body, events(messages));
    }
    let answer = answering.await.unwrap_or_default();
    let status = match answer["error"]["code"].as_i64() {
        Some(-32601 | -32022) if shared.behaviour.revision == Revision::Stateless => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::OK,
    };
    let response = (status, axum::Json(answer)).into_response();
    with_session(&shared, &body, response)
}

/// Opens a session for whoever shakes hands.
fn with_session(shared: &Shared, body: &Value, mut response: Response) -> Response {
    if body["method"] == "initialize" && shared.behaviour.revision == Revision::Sessions {
        let number = shared.sessions_made.fetch_add(1, Ordering::SeqCst);
        let id = format!("session-{number}");
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(SESSION_ID, value);
        }
        shared.sessions.lock().insert(id);
    }
    response
}

/// `GET`.
pub(super) async fn get(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    note(&shared, &Method::GET, &headers, &Value::Null);
    if shared.behaviour.revision == Revision::Stateless {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    if let Some(refusal) = refusal(&shared, &headers, &Value::Null) {
        return refusal;
    }
    events(announcements(&shared))
}

/// `DELETE`.
pub(super) async fn delete(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    note(&shared, &Method::DELETE, &headers, &Value::Null);
    if let Some(refusal) = refusal(&shared, &headers, &Value::Null) {
        return refusal;
    }
    let id = headers.get(SESSION_ID).and_then(|id| id.to_str().ok());
    shared.sessions.lock().remove(id.unwrap_or_default());
    StatusCode::NO_CONTENT.into_response()
}

fn note(shared: &Shared, method: &Method, headers: &HeaderMap, body: &Value) {
    shared.received.lock().push(Received {
        method: method.to_string(),
        headers: headers.clone(),
        body: body.clone(),
    });
}

fn refusal(shared: &Shared, headers: &HeaderMap, body: &Value) -> Option<Response> {
    if let Some(expected) = &shared.behaviour.authorization
        && headers
            .get(header::AUTHORIZATION)
            .is_none_or(|value| value != expected)
    {
        return Some(StatusCode::UNAUTHORIZED.into_response());
    }
    let has_session = || {
        let id = headers.get(SESSION_ID).and_then(|id| id.to_str().ok());
        id.is_some_and(|id| shared.sessions.lock().contains(id))
    };
    match shared.behaviour.revision {
        Revision::Sessions if body["method"] == "initialize" || has_session() => None,
        Revision::Sessions if headers.contains_key(SESSION_ID) => {
            Some((StatusCode::NOT_FOUND, "no such session").into_response())
        }
        Revision::Sessions => Some((StatusCode::BAD_REQUEST, "no session").into_response()),
        Revision::SessionsUnnamed => None,
        Revision::Stateless => mismatch(headers, body).then(|| {
            let error = json!({"jsonrpc": "2.0", "id": body["id"],
                "error": {"code": -32020, "message": "Header mismatch"}});
            (StatusCode::BAD_REQUEST, axum::Json(error)).into_response()
        }),
    }
}

/// Whether headers and body do not say the same, as today's revision asks for.
fn mismatch(headers: &HeaderMap, body: &Value) -> bool {
    let params = &body["params"];
    let name = params["name"].as_str().or(params["uri"].as_str());
    let is = |header: &str, expected: Option<&str>| {
        headers.get(header).map(HeaderValue::as_bytes) == expected.map(str::as_bytes)
    };
    let version = params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
    let is_named = matches!(
        body["method"].as_str(),
        Some("tools/call" | "prompts/get" | "resources/read")
    );
    !is("mcp-protocol-version", version)
        || !is("mcp-method", body["method"].as_str())
        || (is_named && !is("mcp-name", name))
        || params["_meta"]["io.modelcontextprotocol/clientCapabilities"].is_null()
}

/// What everybody is told who listens.
fn announcements(shared: &Arc<Shared>) -> impl Stream<Item = Value> + Send + use<> {
    struct Listening(Arc<Shared>);
    impl Drop for Listening {
        fn drop(&mut self) {
            self.0.listeners.send_modify(|listeners| *listeners -= 1);
        }
    }
    let receiver = shared.announcements.subscribe();
    let listening = Listening(Arc::clone(shared));
    shared.listeners.send_modify(|listeners| *listeners += 1);
    stream::unfold((receiver, listening), |(mut receiver, listening)| async {
        let text = receiver.recv().await.ok()?;
        Some((text, (receiver, listening)))
    })
}

fn events(messages: impl Stream<Item = Value> + Send + 'static) -> Response {
    let events = messages.map(|message| {
        // Pretty, so that one message has several lines of data.
        let text = serde_json::to_string_pretty(&message).unwrap_or_default();
        Ok::<_, Infallible>(Event::data(text).encode())
    });
    let headers = [(header::CONTENT_TYPE, protocol::sse::CONTENT_TYPE)];
    (headers, Body::from_stream(events)).into_response()
}
