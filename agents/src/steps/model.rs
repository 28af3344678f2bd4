//! Asks a model; in a loop with the conversation and the tools, otherwise with one prompt.

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
    let mut messages = Vec::new();
    if let Some(instructions) = &context.agent.instructions {
        messages.push(ChatMessage::text("system", context.render(instructions)?));
    }
    let mut tools = Vec::new();
    match &step.prompt {
        Prompt::Template(template) => {
            messages.push(ChatMessage::text("user", context.render(template)?));
        }
        Prompt::Conversation => {
            messages.extend(conversation(context)?);
            let live = &context.live.entry.definition.tools;
            tools = offered(&services.outbound, &services.pool, context.agent, live).await?;
        }
    }
    let request = request(&step.model, messages, tools);
    let on_delta = |text: &str| {
        if context.tells_deltas {
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
