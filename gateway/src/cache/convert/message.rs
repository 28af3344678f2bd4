//! Messages of Anthropic's API: blocks from pieces and back.

use bytes::Bytes;
use protocol::sse::Event;
use serde_json::{Value, json};

use super::{bytes, wire};

/// The message in its first event, the blocks with one piece each, and its end in the last two.
pub(super) fn to_events(mut whole: Value) -> Option<Bytes> {
    let message = whole.as_object_mut()?;
    let content = message.insert("content".to_owned(), json!([]))?;
    let Value::Array(blocks) = content else {
        return None;
    };
    let mut ends = serde_json::Map::new();
    for name in ["stop_reason", "stop_sequence"] {
        let end = message.insert(name.to_owned(), Value::Null);
        ends.insert(name.to_owned(), end.unwrap_or_default());
    }
    let usage = message.get("usage")?.clone();
    let mut events = vec![json!({"type": "message_start", "message": whole})];
    for (index, mut block) in blocks.into_iter().enumerate() {
        let pieces = pieces(&mut block)?;
        events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
        let deltas = pieces
            .into_iter()
            .map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta}));
        events.extend(deltas);
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(json!({"type": "message_delta", "delta": ends, "usage": usage}));
    events.push(json!({"type": "message_stop"}));
    let named = events.iter().map(|event| Event {
        event: event["type"].as_str().unwrap_or_default().to_owned(),
        ..Event::data(event.to_string())
    });
    Some(wire(named))
}

/// Empties a block; what was in it comes in pieces. Blocks of kinds that are not known come whole.
fn pieces(block: &mut Value) -> Option<Vec<Value>> {
    let (kind, has_citations) = (block["type"].clone(), !block["citations"].is_null());
    let mut take = |name: &str, empty: Value| {
        let field = block.as_object_mut()?.get_mut(name)?;
        Some(std::mem::replace(field, empty))
    };
    let pieces = match kind.as_str()? {
        "text" if has_citations => return None,
        "text" => {
            vec![json!({"type": "text_delta", "text": take("text", json!(""))?})]
        }
        "tool_use" | "server_tool_use" => {
            let input = take("input", json!({}))?;
            vec![json!({"type": "input_json_delta", "partial_json": input.to_string()})]
        }
        "thinking" => {
            let thinking = take("thinking", json!(""))?;
            let signature = take("signature", json!(""))?;
            vec![
                json!({"type": "thinking_delta", "thinking": thinking}),
                json!({"type": "signature_delta", "signature": signature}),
            ]
        }
        _ => Vec::new(),
    };
    Some(pieces)
}

/// The whole message, as long as each piece is one that is known how to add.
pub(super) fn to_whole(events: Vec<Value>) -> Option<Bytes> {
    let mut message = Value::Null;
    let mut inputs: Vec<String> = Vec::new();
    for mut event in events {
        match event["type"].as_str()? {
            "message_start" => message = event["message"].take(),
            "content_block_start" => {
                let block = event["content_block"].take();
                message["content"].as_array_mut()?.push(block);
                inputs.push(String::new());
            }
            "content_block_delta" => {
                let index = usize::try_from(event["index"].as_u64()?).ok()?;
                let block = message["content"].get_mut(index)?;
                add_piece(block, inputs.get_mut(index)?, &event["delta"])?;
            }
            "message_delta" => {
                add_all(&mut message, &event["delta"])?;
                add_all(&mut message["usage"], &event["usage"])?;
            }
            "content_block_stop" | "message_stop" | "ping" => {}
            _ => return None,
        }
    }
    for (block, input) in message["content"].as_array_mut()?.iter_mut().zip(inputs) {
        if !input.is_empty() {
            block["input"] = serde_json::from_str(&input).ok()?;
        }
    }
    Some(bytes(&message))
}

fn add_piece(block: &mut Value, input: &mut String, delta: &Value) -> Option<()> {
    let (name, piece) = match delta["type"].as_str()? {
        "text_delta" => ("text", &delta["text"]),
        "thinking_delta" => ("thinking", &delta["thinking"]),
        "signature_delta" => ("signature", &delta["signature"]),
        "input_json_delta" => {
            input.push_str(delta["partial_json"].as_str()?);
            return Some(());
        }
        _ => return None,
    };
    let piece = piece.as_str()?;
    match block.get_mut(name) {
        Some(Value::String(text)) => text.push_str(piece),
        None => block[name] = json!(piece),
        Some(_) => return None,
    }
    Some(())
}

fn add_all(to: &mut Value, from: &Value) -> Option<()> {
    for (name, value) in from.as_object()? {
        to.as_object_mut()?.insert(name.clone(), value.clone());
    }
    Some(())
}
