//! JSON of a schema from models that can promise none: they are made to call a tool whose arguments are the answer.

use serde_json::Value;

use super::{
    InvalidRequest,
    conversation::{Conversation, Format, Tool, ToolChoice},
    delta::Delta,
    reply::{Finish, Reply, ReplyPart},
};

/// The name of the tool.
const NAME: &str = "quarterdeck_answer";

/// Puts the tool in the place of the format.
///
/// # Errors
/// [`InvalidRequest`] if the schema is not of an object, which arguments always are.
pub(super) fn put_in(conversation: &mut Conversation) -> Result<(), InvalidRequest> {
    let (schema, description) = match conversation.format.take() {
        Some(Format::JsonSchema {
            schema,
            description,
            ..
        }) => (schema, description),
        other => {
            conversation.format = other;
            return Ok(());
        }
    };
    let at = "response_format.json_schema.schema";
    let kind = schema.read::<Value>().unwrap_or_default();
    if kind["type"] != "object" {
        let message = "must be of an object with this model";
        return Err(InvalidRequest::new(at, message));
    }
    let choice = match (&conversation.tool_choice, conversation.tools.is_empty()) {
        // The client insists on a call of its own: there is no answer to have a format.
        (Some(ToolChoice::Required | ToolChoice::Named(_)), false) => return Ok(()),
        (Some(ToolChoice::Auto) | None, false) => ToolChoice::Required,
        (Some(ToolChoice::None), false) | (_, true) => ToolChoice::Named(NAME.to_owned()),
    };
    let purpose = "Gives the answer. Call it once, with the whole answer.";
    conversation.tools.push(Tool {
        at: at.to_owned(),
        name: NAME.to_owned(),
        description: Some(description.unwrap_or_else(|| purpose.to_owned())),
        parameters: Some(schema),
        is_strict: None,
        cache: None,
    });
    conversation.tool_choice = Some(choice);
    Ok(())
}

/// The answer with the tool's arguments as its text.
pub(super) fn take_out(reply: &mut Reply) {
    let mut is_answer = false;
    for part in &mut reply.parts {
        if let ReplyPart::Call(call) = part
            && call.name == NAME
        {
            is_answer = true;
            *part = ReplyPart::Text(std::mem::take(&mut call.arguments));
        }
    }
    let is_call = |part: &ReplyPart| matches!(part, ReplyPart::Call(_));
    if is_answer && reply.finish == Finish::Calls && !reply.parts.iter().any(is_call) {
        reply.finish = Finish::Stop;
    }
}

/// The same, piece by piece.
#[derive(Debug, Default)]
pub(super) struct TakeOut {
    /// The place of the tool's call among the calls.
    answer: Option<u32>,
    has_others: bool,
}

impl TakeOut {
    /// What a piece is to the client; `None` for one that tells it nothing.
    pub(super) fn take(&mut self, delta: Delta) -> Option<Delta> {
        let shifted = |answer: Option<u32>, index: u32| match answer {
            Some(answer) if answer < index => index - 1,
            _ => index,
        };
        Some(match delta {
            Delta::Call { name, index, .. } if name == NAME => {
                self.answer = Some(index);
                return None;
            }
            Delta::Call { index, id, name } => {
                self.has_others = true;
                let index = shifted(self.answer, index);
                Delta::Call { index, id, name }
            }
            Delta::Arguments { index, json } if Some(index) == self.answer => Delta::Text(json),
            Delta::Arguments { index, json } => {
                let index = shifted(self.answer, index);
                Delta::Arguments { index, json }
            }
            Delta::Finish(Finish::Calls) if self.answer.is_some() && !self.has_others => {
                Delta::Finish(Finish::Stop)
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::NAME;
    use crate::wire::{
        ClientApi, Translation, UpstreamApi, tests::exchange, translate_reply, translate_request,
    };

    /// What an old model is asked, for a chat with these fields.
    fn asked(more: &Value) -> Value {
        let mut exchange = exchange(ClientApi::Chat, UpstreamApi::Messages);
        exchange.upstream_model = "claude-3-5-haiku-20241022".to_owned();
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        match translate_request(&exchange, body.to_string().as_bytes()) {
            Ok(body) => serde_json::from_slice(&body).unwrap(),
            Err(invalid) => json!({"refused": invalid.to_string()}),
        }
    }

    fn format(schema: &Value) -> Value {
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    }

    #[track_caller]
    fn check(choice: &str, has_tool: bool, expected: Option<&Value>) {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let function = json!({"name": "f", "parameters": {"type": "object", "properties": {}}});
        let mut more = json!({"response_format": format(&schema), "tool_choice": choice});
        if has_tool {
            more["tools"] = json!([{"type": "function", "function": function}]);
        }
        let asked = asked(&more);
        assert_eq!(asked["output_config"], Value::Null);
        let tools = asked["tools"].as_array().unwrap();
        let last = tools.last().unwrap();
        match expected {
            Some(choice) => {
                assert_eq!(
                    (&last["name"], &last["input_schema"]),
                    (&json!(NAME), &schema)
                );
                let made = &asked["tool_choice"];
                assert_eq!(
                    (&made["type"], &made["name"]),
                    (&choice["type"], &choice["name"])
                );
            }
            None => assert_eq!(last["name"], "f"),
        }
    }

    #[test]
    fn a_model_that_can_promise_no_schema_is_made_to_call_a_tool() {
        let named = json!({"type": "tool", "name": NAME});
        check("auto", false, Some(&named));
        check("auto", true, Some(&json!({"type": "any"})));
        check("none", true, Some(&named));
        check("required", true, None);
        let list = format(&json!({"type": "array", "items": {}}));
        let refused = asked(&json!({"response_format": list}));
        assert!(
            refused["refused"]
                .as_str()
                .unwrap()
                .contains("must be of an object")
        );
    }

    #[test]
    fn the_tools_arguments_are_the_answers_text() {
        let exchange = exchange(ClientApi::Chat, UpstreamApi::Messages);
        let call =
            |name: &str| json!({"type": "tool_use", "id": "t", "name": name, "input": {"a": 1}});
        let reply = |blocks: Value| {
            let body = json!({"content": blocks, "stop_reason": "tool_use", "usage": {}});
            let reply = translate_reply(&exchange, body.to_string().as_bytes()).unwrap();
            let answer: Value = serde_json::from_slice(&reply.body).unwrap();
            answer["choices"][0].clone()
        };
        let only = reply(json!([call(NAME)]));
        assert_eq!(
            (
                &only["message"]["content"],
                &only["finish_reason"],
                &only["message"]["tool_calls"]
            ),
            (&json!("{\"a\":1}"), &json!("stop"), &Value::Null)
        );
        let both = reply(json!([call(NAME), call("f")]));
        assert_eq!(
            (
                &both["finish_reason"],
                &both["message"]["tool_calls"][0]["function"]["name"]
            ),
            (&json!("tool_calls"), &json!("f"))
        );
    }

    #[test]
    fn the_same_holds_piece_by_piece() {
        let exchange = exchange(ClientApi::Chat, UpstreamApi::Messages);
        let mut translation = Translation::new(&exchange);
        let call = |index: u32, name: &str| {
            let block = json!({"type": "tool_use", "id": "t", "name": name, "input": {}});
            json!({"type": "content_block_start", "index": index, "content_block": block})
        };
        let piece = |index: u32, text: &str| {
            let delta = json!({"type": "input_json_delta", "partial_json": text});
            json!({"type": "content_block_delta", "index": index, "delta": delta})
        };
        let stop = json!({"type": "content_block_stop"});
        let end =
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}});
        let events = [
            json!({"type": "message_start", "message": {"id": "i"}}),
            call(0, NAME),
            piece(0, "{\"a\":"),
            piece(0, "1}"),
            stop.clone(),
            call(1, "f"),
            piece(1, "{}"),
            stop,
            end,
            json!({"type": "message_stop"}),
        ];
        let stream: String = events
            .iter()
            .map(|event| format!("data: {event}\n\n"))
            .collect();
        let told = translation.push(stream.as_bytes()).unwrap();
        let told = String::from_utf8(told.to_vec()).unwrap();
        let (mut said, mut calls) = (String::new(), Vec::new());
        for data in told.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let chunk: Value = serde_json::from_str(data).unwrap_or_default();
            let delta = &chunk["choices"][0]["delta"];
            said.push_str(delta["content"].as_str().unwrap_or_default());
            calls.extend(delta["tool_calls"][0]["index"].as_u64());
        }
        assert_eq!((&*said, &*calls), ("{\"a\":1}", &[0, 0][..]));
        assert!(told.contains("\"tool_calls\""), "{told}");
    }
}
