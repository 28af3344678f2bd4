//! The methods of the protocol.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Revision, Shared};

/// Tools on one page of the list.
const PAGE: usize = 2;

/// Whether the answer always comes as a stream.
pub(super) fn is_long(request: &Value) -> bool {
    matches!(request["params"]["name"].as_str(), Some("slow" | "ask"))
}

/// The answer to a request; nothing if the request was cancelled.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Value,
    outbox: mpsc::UnboundedSender<Value>,
) -> Option<Value> {
    let id = request["id"].clone();
    let outcome = match (request["method"].as_str(), shared.behaviour.revision) {
        (Some("tools/call"), _) => match call(&shared, &request, outbox).await? {
            Ok(mut result) => {
                result["ownField"] = json!({"kept": 1.50});
                Ok(result)
            }
            Err(error) => Err(error),
        },
        (Some(method), revision) => plain(method, revision, &request["params"]),
        (None, _) => Err(error(-32600, "no method")),
    };
    Some(match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
    })
}

fn error(code: i64, message: &str) -> Value {
    json!({"code": code, "message": message})
}

fn capabilities() -> Value {
    json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}, "prompts": {}, "completions": {},
        "logging": {}})
}

fn plain(method: &str, revision: Revision, params: &Value) -> Result<Value, Value> {
    let info = json!({"name": "fake", "version": "1"});
    let is_stateless = revision == Revision::Stateless;
    Ok(match method {
        "server/discover" if is_stateless => json!({"resultType": "complete",
            "supportedVersions": ["2026-07-28"], "capabilities": capabilities(), "serverInfo": info}),
        "initialize" if !is_stateless => json!({"protocolVersion": "2025-11-25",
            "capabilities": capabilities(), "serverInfo": info}),
        "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe"
            if !is_stateless =>
        {
            json!({})
        }
        "tools/list" => tools(params["cursor"].as_str()),
        "prompts/list" => json!({"prompts": [{"name": "greet", "arguments": [{"name": "who"}]}]}),
        "prompts/get" => json!({"messages": [{"role": "user",
            "content": {"type": "text", "text": format!("{} {}", params["name"], params["arguments"]["who"])}}]}),
        "resources/list" => json!({"resources": [{"uri": "file:///a", "name": "a"}]}),
        "resources/templates/list" => {
            json!({"resourceTemplates": [{"uriTemplate": "file:///{name}", "name": "any"}]})
        }
        "resources/read" => {
            json!({"contents": [{"uri": params["uri"], "text": format!("text of {}", params["uri"])}],
                "ttlMs": 0, "cacheScope": "private"})
        }
        "completion/complete" => json!({"completion": {"values": [params["ref"].to_string()]}}),
        _ => return Err(error(-32601, "Method not found")),
    })
}

fn tools(cursor: Option<&str>) -> Value {
    let names = ["echo", "slow", "ask", "fail"];
    let start = cursor.and_then(|cursor| cursor.strip_prefix("from-"));
    let start: usize = start.and_then(|start| start.parse().ok()).unwrap_or(0);
    let page = names.iter().skip(start).take(PAGE).map(|name| {
        json!({"name": name, "description": format!("The tool {name}."), "inputSchema": {"type": "object"},
            "ownField": [1.0]})
    });
    let mut result = json!({"tools": page.collect::<Vec<_>>()});
    if start + PAGE < names.len() {
        result["nextCursor"] = json!(format!("from-{}", start + PAGE));
    }
    result
}

async fn call(
    shared: &Shared,
    request: &Value,
    outbox: mpsc::UnboundedSender<Value>,
) -> Option<Result<Value, Value>> {
    let params = &request["params"];
    let text = |text: String| json!({"content": [{"type": "text", "text": text}]});
    Some(Ok(match params["name"].as_str() {
        Some("echo") => {
            let mut result = text(params["arguments"].to_string());
            result["structuredContent"] = params["arguments"].clone();
            result
        }
        Some("fail") => {
            let mut result = text("it failed".to_owned());
            result["isError"] = json!(true);
            result
        }
        Some("slow") => {
            let token = &params["_meta"]["progressToken"];
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                "params": {"progressToken": token, "progress": 1, "total": 2}});
            // The client may have gone.
            let _ = outbox.send(progress);
            let _cancelled = CountOnDrop(shared);
            let mut released = shared.released.subscribe();
            let mut cancelled = shared.cancelled.subscribe();
            cancelled.mark_unchanged();
            tokio::select! {
                // The sender lives as long as the server.
                _ = released.wait_for(|released| *released) => {}
                _ = cancelled.changed() => return None,
            }
            text("at last".to_owned())
        }
        Some("ask") => {
            let (sender, answer) = oneshot::channel();
            shared.asked.lock().insert("question-1".to_owned(), sender);
            let question = json!({"jsonrpc": "2.0", "id": "question-1", "method": "sampling/createMessage",
                "params": {"messages": [], "maxTokens": 7}});
            // The client may have gone.
            let _ = outbox.send(question);
            text(answer.await.unwrap_or_default().to_string())
        }
        _ => return Some(Err(error(-32602, "Unknown tool"))),
    }))
}

/// Counts a call as cancelled whose client went away.
struct CountOnDrop<'a>(&'a Shared);

impl Drop for CountOnDrop<'_> {
    fn drop(&mut self) {
        let is_stateless = self.0.behaviour.revision == Revision::Stateless;
        if is_stateless && !*self.0.released.borrow() {
            self.0.cancelled.send_modify(|cancelled| *cancelled += 1);
        }
    }
}
