//! From messages or text to the tokens of a prompt.

use std::sync::Arc;

use engine_core::TokenId;
use engine_models::ChatInput;
use jiff::Zoned;
use protocol::openai::{ChatMessage, ChatRequest, Content, ErrorKind, Prompt};
use serde_json::{Map, Value};
use tokio::task;

use crate::state::Engine;

use super::fault::Fault;

/// Prompts in one request.
const PROMPTS_MAX: usize = 64;

/// Encodes on a thread that may take its time: long texts take milliseconds, and other requests must not wait for them.
pub(super) async fn encode<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Engine) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let engine = Arc::clone(engine);
    let encoded = task::spawn_blocking(move || work(&engine)).await;
    encoded.unwrap_or_else(|_| {
        Err(Fault::new(
            ErrorKind::Internal,
            "The prompt could not be encoded.",
        ))
    })
}

/// Refuses a text that cannot fit the context whatever its tokens are, before time and memory go into encoding it.
fn check_length(engine: &Engine, text: &str, parameter: &str) -> Result<(), Fault> {
    let tokens_min = text.len() / engine.tokenizer.longest_token();
    if engine.context_length < tokens_min {
        return Err(Fault::context_length(
            engine.context_length,
            tokens_min,
            0,
            parameter,
        ));
    }
    Ok(())
}

/// Renders a chat with the model's template and encodes it.
pub(super) fn of_chat(engine: &Engine, request: &ChatRequest) -> Result<Vec<TokenId>, Fault> {
    let Some(template) = &engine.template else {
        let message =
            "The model has no chat template: it is not made for chats. Use /v1/completions.";
        return Err(Fault::parameter("messages", message));
    };
    if request.messages.is_empty() {
        return Err(Fault::parameter(
            "messages",
            "`messages` must have at least one message.",
        ));
    }
    let messages = request
        .messages
        .iter()
        .enumerate()
        .map(|(index, message)| to_json(index, message));
    let tools = request.tools.clone().filter(|tools| !tools.is_empty());
    let no_tools = request.rest.get("tool_choice").and_then(Value::as_str) == Some("none");
    let input = ChatInput {
        messages: messages.collect::<Result<_, _>>()?,
        tools: tools.filter(|_| !no_tools),
        add_generation_prompt: true,
        bos_token: engine.tokenizer.begin_text(),
        eos_token: engine.tokenizer.end_text(),
    };
    let text = template.render(&input, |format| Zoned::now().strftime(format).to_string())?;
    check_length(engine, &text, "messages")?;
    Ok(engine.tokenizer.encode_chat(&text))
}

/// A message as templates know it: `content` is text, whatever parts it came in.
fn to_json(index: usize, message: &ChatMessage) -> Result<Value, Fault> {
    if let Some(Content::Parts(parts)) = &message.content
        && let Some(part) = parts.iter().find(|part| part.kind != "text")
    {
        let kind = &part.kind;
        return Err(Fault::parameter(
            "messages",
            format!("Message {index} has content of type `{kind}`; only text is supported."),
        ));
    }
    if !["system", "developer", "user", "assistant", "tool"].contains(&message.role.as_str()) {
        return Err(Fault::parameter(
            "messages",
            format!("Message {index} has the unknown role `{}`.", message.role),
        ));
    }
    let mut object = Map::new();
    // Templates know `system`; `developer` is OpenAI's newer word for it.
    let role = if message.role == "developer" {
        "system"
    } else {
        &message.role
    };
    object.insert("role".to_owned(), role.into());
    object.insert("content".to_owned(), message.to_text().into());
    if let Some(calls) = &message.tool_calls {
        let calls = calls.iter().map(|call| {
            // Templates write arguments as JSON, so they get the object that the text stands for.
            let arguments = &call.function.arguments;
            let arguments =
                serde_json::from_str(arguments).unwrap_or_else(|_| Value::from(arguments.clone()));
            serde_json::json!({
                "id": call.id, "type": call.kind,
                "function": {"name": call.function.name, "arguments": arguments},
            })
        });
        object.insert("tool_calls".to_owned(), calls.collect());
    }
    if let Some(id) = &message.tool_call_id {
        object.insert("tool_call_id".to_owned(), id.clone().into());
    }
    if let Some(name) = message.rest.get("name") {
        object.insert("name".to_owned(), name.clone());
    }
    Ok(Value::Object(object))
}

/// Encodes the prompts of a completion.
pub(super) fn of_completion(engine: &Engine, prompt: &Prompt) -> Result<Vec<Vec<TokenId>>, Fault> {
    let vocabulary = engine.tokenizer.vocabulary();
    let encode_text = |text: &String| -> Result<Vec<TokenId>, Fault> {
        check_length(engine, text, "prompt")?;
        Ok(engine.tokenizer.encode(text))
    };
    let prompts: Vec<_> = match prompt {
        Prompt::Text(text) => vec![encode_text(text)?],
        Prompt::Texts(texts) => texts
            .iter()
            .take(PROMPTS_MAX + 1)
            .map(encode_text)
            .collect::<Result<_, _>>()?,
        Prompt::Tokens(tokens) => vec![tokens.clone()],
        Prompt::TokenLists(lists) => lists.clone(),
    };
    if prompts.is_empty() || PROMPTS_MAX < prompts.len() {
        return Err(Fault::parameter(
            "prompt",
            format!("`prompt` must hold 1 to {PROMPTS_MAX} prompts."),
        ));
    }
    for prompt in &prompts {
        if prompt.is_empty() {
            return Err(Fault::parameter("prompt", "The prompt has no tokens."));
        }
        if let Some(token) = prompt.iter().find(|token| vocabulary <= **token as usize) {
            return Err(Fault::parameter(
                "prompt",
                format!("Token {token} is not in the vocabulary."),
            ));
        }
    }
    Ok(prompts)
}
