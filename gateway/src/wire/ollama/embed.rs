//! `/api/embed`, and `/api/embeddings` of before: embeddings for clients of Ollama's API, asked for in OpenAI's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{
    InvalidReply, InvalidRequest,
    fields::Fields,
    json::{Extra, Json},
    to_body,
};

/// Which of the two ways a client asks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmbedForm {
    /// `/api/embed`: texts, and a vector for each.
    Texts,
    /// `/api/embeddings`: one prompt, and its vector.
    Prompt,
}

/// How a model is run, which only Ollama knows.
const RUNNING: [&str; 3] = ["truncate", "options", "keep_alive"];

/// A request for embeddings, which looks alike in both APIs but for what only Ollama knows.
#[derive(Serialize)]
struct Request {
    input: Json,
    #[serde(flatten)]
    rest: Extra,
}

#[derive(Serialize)]
struct Vectors<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f32>>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u64,
}

#[derive(Serialize)]
struct Vector {
    embedding: Vec<f32>,
}

/// What is read of an answer of OpenAI's API.
#[derive(Deserialize)]
struct List {
    data: Vec<Embedding>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Embedding {
    #[serde(default)]
    index: u32,
    embedding: Vec<f32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: u64,
}

/// The request in OpenAI's API, and as `/api/embed` has it.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed.
pub(crate) fn ask_embeddings(
    form: EmbedForm,
    body: &[u8],
) -> Result<(Bytes, Bytes), InvalidRequest> {
    let mut fields = Fields::of_body(body)?;
    let name = match form {
        EmbedForm::Texts => "input",
        EmbedForm::Prompt => "prompt",
    };
    let input = fields.json(name);
    let input = input.ok_or_else(|| fields.invalid(name, "is missing"))?;
    fields.ignore(&["input"]);
    let rest = fields.rest();
    let asked = Request {
        input: input.clone(),
        rest: rest.without(&RUNNING),
    };
    Ok((to_body(&asked), to_body(&Request { input, rest })))
}

/// The answer of OpenAI's API, in the words of Ollama's.
///
/// # Errors
/// [`InvalidReply`] if it is none.
pub(crate) fn answer_embeddings(
    form: EmbedForm,
    model: &str,
    body: &[u8],
) -> Result<Bytes, InvalidReply> {
    let List { mut data, usage } = serde_json::from_slice(body)?;
    data.sort_by_key(|embedding| embedding.index);
    let mut embeddings: Vec<_> = data.into_iter().map(|one| one.embedding).collect();
    Ok(match form {
        EmbedForm::Texts => to_body(&Vectors {
            model,
            embeddings,
            total_duration: 0,
            load_duration: 0,
            prompt_eval_count: usage.prompt_tokens,
        }),
        EmbedForm::Prompt => to_body(&Vector {
            embedding: match embeddings.is_empty() {
                true => return Err(InvalidReply::Incomplete("embeddings")),
                false => embeddings.swap_remove(0),
            },
        }),
    })
}
