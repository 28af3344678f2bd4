//! Asks a model; in a loop with the conversation and the tools, otherwise with one prompt.

use std::sync::atomic::Ordering;

use protocol::{
    agent::ModelChoice,
    openai::{ChatMessage, ChatRequest, StreamOptions},
};
use serde_json::{Map, Value};

use super::{Outcome, StepContext};
use crate::{
    failure::Failure,
    graph::{MESSAGES, ModelStep, Prompt},
    model::ask,
    tools::offered,
};

pub(super) async fn run(context: StepContext<'_>, step: &ModelStep) -> Result<Outcome, Failure> {
    let services = context.services;
    let instructions = match &context.agent.instructions {
        Some(template) => context.render(template)?,
        None => String::new(),
    };
    let mut tools = Vec::new();
    let said = match &step.prompt {
        Prompt::Template(template) => vec![ChatMessage::text("user", context.render(template)?)],
        Prompt::Conversation => {
            let live = &context.live.entry.definition.tools;
            tools = offered(&services.outbound, &services.pool, context.agent, live).await?;
            conversation(context)?
        }
    };
    let messages = with_instructions(instructions, said);
    let request = request(&step.model, messages, tools);
    let on_delta = |text: &str| {
        if context.tells_deltas {
            context.has_told.store(true, Ordering::Relaxed);
            services
                .hub
                .publish_delta(&context.key.run, context.key.number, text);
        }
    };
    let answer = ask(
        &services.outbound,
        &context.live.entry.gateway,
        &request,
        context.task,
        on_delta,
    )
    .await?;
    if let Some(usage) = answer.usage {
        services.metrics.tokens(usage);
    }
    let value = match &step.prompt {
        Prompt::Template(_) => Value::String(answer.message.to_text()),
        Prompt::Conversation => serde_json::to_value(&answer.message)
            .map_err(|error| Failure::permanent(format!("the answer cannot be kept: {error}")))?,
    };
    Ok(Outcome {
        usage: answer.usage,
        ..Outcome::write(&step.to, value)
    })
}

/// Puts the instructions first. Many chat templates take one system message only, at the start, so what a client says
/// as system or developer is part of it.
fn with_instructions(instructions: String, said: Vec<ChatMessage>) -> Vec<ChatMessage> {
    let is_system = |message: &ChatMessage| matches!(message.role.as_str(), "system" | "developer");
    let (system, mut messages): (Vec<_>, Vec<_>) = said.into_iter().partition(is_system);
    let texts = std::iter::once(instructions).chain(system.iter().map(ChatMessage::to_text));
    let text = texts
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n");
    if !text.is_empty() {
        messages.insert(0, ChatMessage::text("system", text));
    }
    messages
}

fn conversation(context: StepContext<'_>) -> Result<Vec<ChatMessage>, Failure> {
    let messages = context
        .state
        .values
        .get(MESSAGES)
        .cloned()
        .unwrap_or(Value::Null);
    serde_json::from_value(messages)
        .map_err(|error| Failure::permanent(format!("`messages` is no conversation: {error}")))
}

fn request(model: &ModelChoice, messages: Vec<ChatMessage>, tools: Vec<Value>) -> ChatRequest {
    ChatRequest {
        model: model.name.clone(),
        messages,
        max_completion_tokens: model.max_tokens,
        // A temperature is 0 to 2; the wire has single precision.
        temperature: model.temperature.map(|temperature| temperature as f32),
        top_p: None,
        top_k: None,
        seed: model.seed,
        stop: None,
        logprobs: None,
        top_logprobs: None,
        stream: Some(true),
        stream_options: Some(StreamOptions {
            include_usage: true,
        }),
        tools: (!tools.is_empty()).then_some(tools),
        rest: Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::openai::ChatMessage;

    use super::with_instructions;

    #[track_caller]
    fn check(instructions: &str, said: &[(&str, &str)], expected: &[(&str, &str)]) {
        let message = |(role, text): &(&str, &str)| ChatMessage::text(*role, *text);
        let messages =
            with_instructions(instructions.to_owned(), said.iter().map(message).collect());
        assert_eq!(messages, expected.iter().map(message).collect::<Vec<_>>());
    }

    #[test]
    fn there_is_one_system_message_and_it_is_first() {
        check("A.", &[("user", "hi")], &[("system", "A."), ("user", "hi")]);
        check("", &[("user", "hi")], &[("user", "hi")]);
        check(
            "A.",
            &[("system", "B."), ("user", "hi"), ("developer", "C.")],
            &[("system", "A.\n\nB.\n\nC."), ("user", "hi")],
        );
        check(
            "",
            &[("user", "hi"), ("system", "B.")],
            &[("system", "B."), ("user", "hi")],
        );
    }
}
