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
    /// Vertex AI's `predict`.
    Vertex,
    /// Amazon's Titan by `InvokeModel`: one text a request.
    Titan,
    /// Cohere's models at Amazon by `InvokeModel`.
    Cohere,
    /// Ollama's `/api/embed`.
    Ollama,
}

/// A request for embeddings on its way to an upstream's API, and its answer on the way back.
#[derive(Debug, Clone)]
pub(crate) struct EmbeddingsExchange {
    /// The API that it goes out by.
    pub(crate) api: EmbeddingsApi,
    /// The model as the client named it; answers show this name.
    pub(crate) model: String,
    /// The model as the upstream names it.
    pub(crate) upstream_model: String,
    /// The client's body: it says how vectors are written.
    pub(crate) request: Bytes,
}

impl EmbeddingsApi {
    /// The API of a model at Amazon, told by its name; `None` if it is none that is known to make embeddings.
    pub(crate) fn at_bedrock(model: &str) -> Option<Self> {
        match model {
            _ if model.contains("titan-embed") => Some(Self::Titan),
            _ if model.contains("cohere.embed") => Some(Self::Cohere),
            _ => None,
        }
    }
}

/// Bytes of a text for each of its tokens, where the upstream counts none.
const BYTES_PER_TOKEN: u64 = 4;

/// Fields of single texts at Vertex, where all others are of the whole request.
const OF_INSTANCES: [&str; 2] = ["task_type", "title"];

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

/// A request to Vertex.
#[derive(Serialize)]
struct VertexRequest {
    instances: Vec<VertexInstance>,
    parameters: VertexParameters,
}

#[derive(Serialize)]
struct VertexInstance {
    content: String,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VertexParameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
    #[serde(flatten)]
    extra: Extra,
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

/// The body for the upstream.
///
/// # Errors
/// [`InvalidRequest`] if the body is malformed or asks for what the upstream's API has no words for.
pub(crate) fn translate_embeddings_request(
    exchange: &EmbeddingsExchange,
) -> Result<Bytes, InvalidRequest> {
    let model = &*exchange.upstream_model;
    let mut fields = Fields::of_body(&exchange.request)?;
    // What texts are for: Cohere must be told, and most texts are documents.
    let purpose = fields.json("input_type");
    let wanted = Wanted::read(fields)?;
    let Wanted {
        texts,
        dimensions,
        extra,
        ..
    } = wanted;
    match exchange.api {
        EmbeddingsApi::Gemini => {
            let name = model.strip_prefix("models/").unwrap_or(model);
            let one = |text| GeminiOne {
                model: format!("models/{name}"),
                content: GeminiContent {
                    parts: [GeminiText { text }],
                },
                output_dimensionality: dimensions,
                extra: extra.without(&["model", "content", "outputDimensionality"]),
            };
            let requests = texts.into_iter().map(one).collect();
            Ok(to_body(&GeminiRequest { requests }))
        }
        EmbeddingsApi::Vertex => {
            let one = |content| VertexInstance {
                content,
                extra: extra.only(&OF_INSTANCES),
            };
            Ok(to_body(&VertexRequest {
                instances: texts.into_iter().map(one).collect(),
                parameters: VertexParameters {
                    output_dimensionality: dimensions,
                    extra: extra.without(&["outputDimensionality", "task_type", "title"]),
                },
            }))
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
    /// Vertex's vectors.
    #[serde(default)]
    predictions: Option<Vec<VertexPrediction>>,
}

#[derive(Deserialize)]
struct VertexPrediction {
    embeddings: VertexVector,
}

#[derive(Deserialize)]
struct VertexVector {
    values: Vec<f32>,
    #[serde(default)]
    statistics: VertexStatistics,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VertexStatistics {
    token_count: Option<f64>,
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

impl AnyAnswer {
    /// Tokens of the prompt, if it tells.
    fn tokens(&self) -> Option<u64> {
        let of_vertex = |predictions: &Vec<VertexPrediction>| {
            let counts = predictions
                .iter()
                .map(|one| one.embeddings.statistics.token_count);
            let sum: Option<f64> = counts.sum();
            sum.map(|sum| sum as u64)
        };
        self.input_text_token_count
            .or(self.prompt_eval_count)
            .or(self
                .usage_metadata
                .as_ref()
                .map(|usage| usage.prompt_token_count))
            .or(self.predictions.as_ref().and_then(of_vertex))
    }

    fn vectors(self) -> Option<Vec<Vec<f32>>> {
        if let Some(predictions) = self.predictions {
            let vectors = predictions.into_iter().map(|one| one.embeddings.values);
            return Some(vectors.collect());
        }
        match (self.embeddings, self.embedding) {
            (Some(AnyVectors::Bare(vectors) | AnyVectors::Typed { float: vectors }), _) => {
                Some(vectors)
            }
            (Some(AnyVectors::Named(vectors)), _) => {
                Some(vectors.into_iter().map(|vector| vector.values).collect())
            }
            (None, vector) => vector.map(|vector| vec![vector]),
        }
    }
}

/// The client's answer, from the upstream's, whose head counts so many tokens. Where nobody counts them they are
/// guessed by the length of the texts.
///
/// # Errors
/// [`InvalidReply`] if it is not an answer of the upstream's API.
pub(super) fn translate_embeddings_reply(
    exchange: &EmbeddingsExchange,
    counted: Option<u64>,
    body: &[u8],
) -> Result<TranslatedReply, InvalidReply> {
    let wanted = Fields::of_body(&exchange.request).and_then(Wanted::read);
    let (format, guessed) = match wanted {
        Ok(wanted) => (wanted.format, guess(&wanted.texts)),
        Err(_) => (EmbeddingFormat::Float, 0),
    };
    let answer: AnyAnswer = serde_json::from_slice(body)?;
    let tokens = counted.or(answer.tokens()).unwrap_or(guessed);
    let vectors = answer.vectors();
    let vectors = vectors.ok_or(InvalidReply::Incomplete("embeddings"))?;
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
        model: exchange.model.clone(),
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

/// Tokens that texts are guessed to have.
fn guess(texts: &[String]) -> u64 {
    let bytes = texts
        .iter()
        .map(|text| u64::try_from(text.len()).unwrap_or(u64::MAX));
    let tokens = bytes.map(|bytes| bytes.div_ceil(BYTES_PER_TOKEN));
    tokens.fold(0, u64::saturating_add)
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
