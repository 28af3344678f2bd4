//! From the body of a chat to answers in the making.

use std::sync::Arc;

use engine_core::{Constraint, TokenId};
use engine_models::Tokenizer;
use futures::future::try_join_all;
use serde_json::{Map, Value};

use crate::grammar::{GrammarSpec, Reasoning, ToolCalls};
use crate::parse::{Output, OutputOptions, Tool, ToolChoice};
use crate::runner::Visible;
use crate::state::{Engine, State};

use super::super::choice::Choice;
use super::super::fault::Fault;
use super::super::format;
use super::super::offload;
use super::super::submit::{Served, Submission, observe, served, submit};
use super::ChatBody;
use super::prompt::{Rendered, TemplateOptions, render};

/// A chat whose answers are being made.
#[derive(Debug)]
pub(in crate::http) struct Chat {
    /// The model's name, as the request has it.
    pub(in crate::http) model: String,
    pub(in crate::http) tokenizer: Arc<Tokenizer>,
    pub(in crate::http) choices: Vec<Choice>,
    pub(in crate::http) has_logprobs: bool,
    pub(in crate::http) has_prompt_logprobs: bool,
}

/// Starts the answers to a chat.
pub(in crate::http) async fn start(state: &State, body: ChatBody) -> Result<Chat, Fault> {
    let Served { engine, adapter } = served(state, &body.model)?;
    let mut making = body.making()?;
    let hides_reasoning = body.include_reasoning == Some(false);
    let model = body.model.clone();
    let (preparing, answers) = (Arc::clone(&engine), making.answers);
    let prepared = offload(state, move || prepare(&preparing, &body, answers)).await??;
    let Prepared {
        rendered,
        answers,
        marks,
    } = prepared;
    if let Visible::Only(visible) = &mut making.visible {
        visible.extend(marks);
    }
    let prompt: Arc<[_]> = rendered.tokens.into();
    let (engine, making) = (&engine, &making);
    observe(state, engine, making, prompt.len());
    let submitted = (0..).zip(answers).map(|(index, (constraint, output))| {
        let prompt = Arc::clone(&prompt);
        async move {
            let submission = Submission {
                prompt,
                adapter,
                constraint,
                index,
                parameter: "messages",
            };
            let tokens = submit(engine, making, submission).await?;
            Ok::<_, Fault>(Choice::of_chat(index, tokens, output, hides_reasoning))
        }
    });
    Ok(Chat {
        model,
        tokenizer: Arc::clone(&engine.tokenizer),
        choices: try_join_all(submitted).await?,
        has_logprobs: making.sampling.logprobs.is_some(),
        has_prompt_logprobs: making.prompt_logprobs.is_some(),
    })
}

/// How many tokens the prompt of a chat has.
pub(in crate::http) async fn count(state: &State, body: ChatBody) -> Result<usize, Fault> {
    let engine = served(state, &body.model)?.engine;
    offload(state, move || {
        Ok(Asked::read(&engine, &body)?.rendered.tokens.len())
    })
    .await?
}

/// A chat's prompt, and the tools that its answers may call.
struct Asked {
    tools: Vec<Tool>,
    choice: ToolChoice,
    rendered: Rendered,
}

impl Asked {
    fn read(engine: &Engine, body: &ChatBody) -> Result<Self, Fault> {
        let mut tools = Tool::read_all(body.tools.as_deref().unwrap_or_default())?;
        let choice = ToolChoice::read(body.tool_choice.as_ref(), &tools)?;
        if choice == ToolChoice::None {
            tools.clear();
        }
        let rendered = render(engine, &body.messages, &tools, template_options(body))?;
        Ok(Self {
            tools,
            choice,
            rendered,
        })
    }
}

/// What takes its time: the prompt, and the grammars of the answers.
#[derive(Debug)]
struct Prepared {
    rendered: Rendered,
    /// What restricts each answer, and what reads it.
    answers: Vec<(Option<Box<dyn Constraint>>, Output)>,
    /// The control tokens that mark calls and reasoning.
    marks: Vec<TokenId>,
}

fn prepare(engine: &Engine, body: &ChatBody, answers: u32) -> Result<Prepared, Fault> {
    let Asked {
        tools,
        choice,
        rendered,
    } = Asked::read(engine, body)?;
    let parallel = body.parallel_tool_calls.unwrap_or(true);
    let formats = &engine.formats;
    let reasoning = formats.reasoning.clone().map(|format| Reasoning {
        is_open: format.is_open_in(&rendered.text),
        format,
    });
    let calls = ToolCalls {
        format: formats.tools,
        tools: tools.clone(),
        choice,
        parallel,
    };
    let spec = specification(body, calls)?;
    let options = OutputOptions {
        tools,
        parallel_tool_calls: parallel,
        reasoning_is_open: reasoning
            .as_ref()
            .is_some_and(|reasoning| reasoning.is_open),
    };
    let marks = formats.marks(&engine.tokenizer, !options.tools.is_empty());
    let answer = || {
        let constraint = match &spec {
            None => None,
            Some((name, spec)) => {
                let compiled = engine.grammars.compile(spec, reasoning.as_ref());
                Some(compiled.map_err(|error| format::fault(name, &error))?)
            }
        };
        Ok((constraint, Output::new(formats, options.clone())))
    };
    Ok(Prepared {
        rendered,
        answers: (0..answers)
            .map(|_| answer())
            .collect::<Result<_, Fault>>()?,
        marks,
    })
}

/// What the answers must look like, with the name of the parameter that says so. A call that must be made leaves no
/// room for another format; one that may be made stands beside it.
fn specification(
    body: &ChatBody,
    calls: ToolCalls,
) -> Result<Option<(&'static str, GrammarSpec)>, Fault> {
    let format = body.sampling.format.read()?;
    let must_call = matches!(calls.choice, ToolChoice::Required | ToolChoice::Named(_));
    if calls.is_restricted() && (must_call || format.is_none()) {
        return Ok(Some(("tools", GrammarSpec::ToolCalls(calls))));
    }
    let may_call = !calls.tools.is_empty() && calls.choice != ToolChoice::None;
    Ok(format.map(|(name, format)| match format {
        GrammarSpec::JsonObject | GrammarSpec::JsonSchema { .. } if may_call => {
            let calls = ToolCalls {
                choice: ToolChoice::Required,
                ..calls
            };
            let either = vec![GrammarSpec::ToolCalls(calls), format];
            (name, GrammarSpec::Either(either))
        }
        format => (name, format),
    }))
}

fn template_options(body: &ChatBody) -> TemplateOptions {
    let mut variables = Map::new();
    if let Some(effort) = &body.reasoning_effort {
        variables.insert("reasoning_effort".to_owned(), effort.clone().into());
        if effort == "none" {
            variables.insert("enable_thinking".to_owned(), Value::Bool(false));
        }
    }
    variables.extend(body.chat_template_kwargs.clone().unwrap_or_default());
    TemplateOptions {
        skips_generation_prompt: body.add_generation_prompt == Some(false),
        continues_final_message: body.continue_final_message == Some(true),
        variables,
    }
}
