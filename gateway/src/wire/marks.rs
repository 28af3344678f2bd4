//! Marks for caches, put in for clients that put in none: behind the tools, the system's texts and the last user's turn.

use serde_json::json;

use super::{
    conversation::{Conversation, Message, Part, PartKind, Role},
    json::Json,
};

/// Puts them in, unless the client has marked its request itself.
pub(super) fn put_in(conversation: &mut Conversation, takes_tools: bool) {
    if has_marks(conversation) {
        return;
    }
    let mark = || Some(Json::from(json!({"type": "ephemeral"})));
    if takes_tools && let Some(tool) = conversation.tools.last_mut() {
        tool.cache = mark();
    }
    for role in [Role::System, Role::User] {
        let mut of_role = conversation.messages.iter_mut().rev();
        let last = of_role.find(|message| message.role == role);
        if let Some(part) = last.and_then(|message| message.parts.last_mut())
            && can_be_marked(part)
        {
            part.cache = mark();
        }
    }
}

/// Servers refuse marks at empty texts.
fn can_be_marked(part: &Part) -> bool {
    match &part.kind {
        PartKind::Text(text) => !text.trim().is_empty(),
        _ => true,
    }
}

fn has_marks(conversation: &Conversation) -> bool {
    fn is_marked(part: &Part) -> bool {
        let within = match &part.kind {
            PartKind::CallResult(result) => result.content.iter().any(is_marked),
            _ => false,
        };
        part.cache.is_some() || within
    }
    let in_message = |message: &Message| message.parts.iter().any(is_marked);
    conversation.cache.is_some()
        || conversation.tools.iter().any(|tool| tool.cache.is_some())
        || conversation.messages.iter().any(in_message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::wire::{ClientApi, UpstreamApi, tests::exchange, translate_request};

    fn asked(upstream: UpstreamApi, model: &str, body: &Value) -> Value {
        let mut exchange = exchange(ClientApi::Chat, upstream);
        exchange.upstream_model = model.to_owned();
        exchange.marks_cache = true;
        let body = translate_request(&exchange, body.to_string().as_bytes()).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn chat() -> Value {
        let function = |name: &str| json!({"type": "function", "function": {"name": name}});
        json!({
            "model": "m", "tools": [function("f"), function("g")],
            "messages": [
                {"role": "system", "content": "s"}, {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
            ],
        })
    }

    #[test]
    fn tools_system_and_the_last_turn_are_marked() {
        let mark = json!({"type": "ephemeral"});
        let sent = asked(UpstreamApi::Messages, "claude-opus-4-6", &chat());
        assert_eq!(
            (
                &sent["tools"][0]["cache_control"],
                &sent["tools"][1]["cache_control"],
                &sent["system"][0]["cache_control"],
                &sent["messages"][2]["content"][0]["cache_control"],
            ),
            (&Value::Null, &mark, &mark, &mark)
        );
        assert!(!sent["messages"][0].to_string().contains("cache_control"));
        let point = json!({"cachePoint": {"type": "default"}});
        let sent = asked(UpstreamApi::Bedrock, "anthropic.claude-sonnet-4-5", &chat());
        assert_eq!(
            (
                &sent["toolConfig"]["tools"][2],
                &sent["system"][1],
                &sent["messages"][2]["content"][1],
            ),
            (&point, &point, &point)
        );
        let nova = asked(UpstreamApi::Bedrock, "amazon.nova-pro-v1:0", &chat());
        assert_eq!(
            (
                nova["toolConfig"]["tools"].as_array().unwrap().len(),
                &nova["system"][1]
            ),
            (2, &point)
        );
        let other = asked(
            UpstreamApi::Bedrock,
            "meta.llama3-1-8b-instruct-v1:0",
            &chat(),
        );
        assert!(!other.to_string().contains("cachePoint"), "{other}");
    }

    #[test]
    fn a_clients_own_marks_stay_alone() {
        let mut body = chat();
        body["messages"][1] = json!({"role": "user", "content": [
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ]});
        let sent = asked(UpstreamApi::Messages, "claude-opus-4-6", &body).to_string();
        assert_eq!(sent.matches("cache_control").count(), 1, "{sent}");
    }
}
