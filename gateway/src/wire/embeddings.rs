//! Embeddings: OpenAI's clients, and upstreams of Google, Amazon and Ollama.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use protocol::openai::{
    Embedding, EmbeddingFormat, EmbeddingList, EmbeddingUsage, EmbeddingVector, Prompt,
};
use serde::{Deserialize, Serialize};

use super::{
    InvalidReply, InvalidRequest, TranslatedReply,
    fields::Fields,
    json::{Extra, Json},
    to_body,
};
use crate::provider::Tokens;

/// An API that makes embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EmbeddingsApi {
    /// Gemini's `batchEmbedContents`.
    Gemini,
    /// Amazon's Titan by `InvokeModel`: one text a request.
    Titan,
    /// Cohere's models at Amazon by `InvokeModel`.
    Cohere,
    /// Ollama's `/api/embed`.
    Ollama,
}

/// What a client asks for.
struct Wanted {
    texts: Vec<String>,
    format: EmbeddingFormat,
    dimensions: Option<u32>,
    extra: Extra,
}

/// A request to Gemini's API.
#[derive(Serialize)]
struct GeminiRequest {
    requests: Vec<GeminiOne>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GeminiOne {
    model: String,
    content: GeminiContent,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize)]
struct GeminiContent {
    parts: [GeminiText; 1],
}

#[derive(Serialize)]
struct GeminiText {
    text: String,
}

/// A request to Titan.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TitanRequest {
    input_text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    #[serde(flatten)]
    extra: Extra,
}

/// A request to Cohere's models.
#[derive(Serialize)]
struct CohereRequest {
    texts: Vec<String>,
    input_type: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u32>,
    #[serde(flatten)]
    extra: Extra,
}

/// A request to Ollama.
#[derive(Serialize)]
struct OllamaRequest<'a> {
    model: &'a str,
    input: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    #[serde(flatten)]
    extra: Extra,
}

/// The body for the upstream, which knows the model by this name.
///
/// # Errors
/// [`InvalidRequest`] if the body is malformed or asks for what the upstream's API has no words for.
pub(crate) fn translate_embeddings_request(
    api: EmbeddingsApi,
    model: &str,
    body: &[u8],
) -> Result<Bytes, InvalidRequest> {
    let mut fields = Fields::of_body(body)?;
    // What texts are for: Cohere must be told, and most texts are documents.
    let purpose = fields.json("input_type");
    let wanted = Wanted::read(fields)?;
    let Wanted {
        texts,
        dimensions,
        extra,
        ..
    } = wanted;
    match api {
        EmbeddingsApi::Gemini => {
            let one = |text| GeminiOne {
                model: format!("models/{model}"),
                content: GeminiContent {
                    parts: [GeminiText { text }],
                },
                output_dimensionality: dimensions,
                extra: extra.without(&["model", "content", "outputDimensionality"]),
            };
            let requests = texts.into_iter().map(one).collect();
            Ok(to_body(&GeminiRequest { requests }))
        }
        EmbeddingsApi::Titan => {
            let message = "must be one text with this model";
            let mut texts = texts.into_iter();
            let (Some(input_text), None) = (texts.next(), texts.next()) else {
                return Err(InvalidRequest::new("input", message));
            };
            Ok(to_body(&TitanRequest {
                input_text,
                dimensions,
                extra: extra.without(&["inputText"]),
            }))
        }
        EmbeddingsApi::Cohere => Ok(to_body(&CohereRequest {
            texts,
            input_type: purpose.unwrap_or_else(|| serde_json::json!("search_document").into()),
            output_dimension: dimensions,
            extra: extra.without(&["texts", "output_dimension", "embedding_types"]),
        })),
        EmbeddingsApi::Ollama => Ok(to_body(&OllamaRequest {
            model,
            input: texts,
            dimensions,
            extra: extra.without(&[]),
        })),
    }
}

impl Wanted {
    fn read(mut fields: Fields<'_>) -> Result<Self, InvalidRequest> {
        fields.ignore(&["model", "user"]);
        let texts = match fields.need::<Prompt>("input")? {
            Prompt::Text(text) => vec![text],
            Prompt::Texts(texts) => texts,
            Prompt::Tokens(_) | Prompt::TokenLists(_) => {
                let message = "must be text with this model, which has tokens of its own";
                return Err(fields.invalid("input", message));
            }
        };
        if texts.is_empty() {
            return Err(fields.invalid("input", "must not be empty"));
        }
        Ok(Self {
            texts,
            format: fields.value("encoding_format")?.unwrap_or_default(),
            dimensions: fields.value("dimensions")?,
            extra: fields.rest(),
        })
    }
}

/// The answers of all these APIs: each has its own fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyAnswer {
    /// Titan's only vector.
    #[serde(default)]
    embedding: Option<Vec<f32>>,
    #[serde(default)]
    embeddings: Option<AnyVectors>,
    #[serde(default)]
    input_text_token_count: Option<u64>,
    #[serde(default, rename = "prompt_eval_count")]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    usage_metadata: Option<GeminiUsage>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyVectors {
    /// Ollama's and Cohere's.
    Bare(Vec<Vec<f32>>),
    /// Gemini's.
    Named(Vec<GeminiVector>),
    /// Cohere's, by the type of numbers.
    Typed { float: Vec<Vec<f32>> },
}

#[derive(Deserialize)]
struct GeminiVector {
    values: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiUsage {
    #[serde(default)]
    prompt_token_count: u64,
}

/// The client's answer, from the upstream's. The client named the model so, and asked by this body, which says how
/// vectors are written.
///
/// # Errors
/// [`InvalidReply`] if it is not an answer of the upstream's API.
pub(crate) fn translate_embeddings_reply(
    model: &str,
    request: &[u8],
    body: &[u8],
) -> Result<TranslatedReply, InvalidReply> {
    let format = Fields::of_body(request)
        .and_then(Wanted::read)
        .map_or(EmbeddingFormat::Float, |wanted| wanted.format);
    let answer: AnyAnswer = serde_json::from_slice(body)?;
    let tokens = answer
        .input_text_token_count
        .or(answer.prompt_eval_count)
        .or(answer.usage_metadata.map(|usage| usage.prompt_token_count))
        .unwrap_or(0);
    let vectors = match (answer.embeddings, answer.embedding) {
        (Some(AnyVectors::Bare(vectors) | AnyVectors::Typed { float: vectors }), _) => vectors,
        (Some(AnyVectors::Named(vectors)), _) => {
            vectors.into_iter().map(|vector| vector.values).collect()
        }
        (None, Some(vector)) => vec![vector],
        (None, None) => return Err(InvalidReply::Incomplete("embeddings")),
    };
    let data = vectors
        .into_iter()
        .zip(0..)
        .map(|(vector, index)| Embedding {
            object: "embedding".to_owned(),
            index,
            embedding: write(vector, format),
        });
    let list = EmbeddingList {
        object: "list".to_owned(),
        data: data.collect(),
        model: model.to_owned(),
        usage: EmbeddingUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    };
    Ok(TranslatedReply {
        body: to_body(&list),
        tokens: Tokens {
            prompt: tokens,
            completion: 0,
            cached: None,
        },
    })
}

fn write(vector: Vec<f32>, format: EmbeddingFormat) -> EmbeddingVector {
    match format {
        EmbeddingFormat::Float => EmbeddingVector::Float(vector),
        EmbeddingFormat::Base64 => {
            let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
            EmbeddingVector::Base64(STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests;
