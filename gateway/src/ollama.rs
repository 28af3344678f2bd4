//! Clients of Ollama's API: what they ask for is asked for in OpenAI's, and what comes back is told in Ollama's.
//!
//! Everything between is the way of every request, with its keys, limits, guards, cache and ledger. A request that
//! reaches an Ollama server goes out as it came.

mod lists;
mod tell;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body as HttpBody;
use jiff::Timestamp;
use protocol::openai::ErrorKind;
use serde::Deserialize;

pub(crate) use self::lists::{show, tags};
use crate::{
    call::{Operation, Surface},
    decode::{Asked, read_body},
    encode::{self, Body},
    fault::Fault,
    gateway::Gateway,
    paths::Ollama,
    wire::{self, ClientApi, EmbedForm, Exchange, InvalidRequest, UpstreamApi},
};

/// The version of Ollama whose API this is: clients ask for it to know what they may ask for.
const API_VERSION: &str = "0.13.0";

/// What is read of every request.
#[derive(Deserialize)]
struct Named {
    #[serde(default, alias = "name")]
    model: String,
    /// Chats are streamed unless they say that they are not.
    #[serde(default)]
    stream: Option<bool>,
}

/// Answers one request.
///
/// # Errors
/// What the caller is told in place of an answer.
pub(crate) async fn handle<B>(
    gateway: &Arc<Gateway>,
    id: &str,
    place: Ollama,
    (headers, body): (HeaderMap, B),
) -> Result<Response<Body>, Fault>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match place {
        Ollama::Version => {
            let version = serde_json::json!({"version": API_VERSION});
            return Ok(encode::json(StatusCode::OK, &version));
        }
        Ollama::Tags => return gateway.list_models(&headers, Surface::Ollama),
        Ollama::Chat | Ollama::Generate | Ollama::Embed | Ollama::Embeddings | Ollama::Show => {}
    }
    gateway.welcome(&*gateway.table()?, &headers).await?;
    let body = read_body(body, gateway.body_bytes_max()).await?;
    match place {
        Ollama::Generate => {
            let chat = wire::generation_as_chat(&body).map_err(|error| invalid(&error))?;
            converse(gateway, (id, ClientApi::Generate), headers, chat).await
        }
        Ollama::Embed => embed(gateway, (id, EmbedForm::Texts), headers, body).await,
        Ollama::Embeddings => embed(gateway, (id, EmbedForm::Prompt), headers, body).await,
        Ollama::Show => gateway.get_model(&headers, &read(&body)?.model, Surface::Ollama),
        Ollama::Chat | Ollama::Tags | Ollama::Version => {
            converse(gateway, (id, ClientApi::Ollama), headers, body).await
        }
    }
}

/// Asks for a chat, which is what all conversations are.
async fn converse(
    gateway: &Arc<Gateway>,
    (id, client): (&str, ClientApi),
    headers: HeaderMap,
    original: Bytes,
) -> Result<Response<Body>, Fault> {
    let Named { model, stream } = read(&original)?;
    let exchange = Exchange {
        client: ClientApi::Ollama,
        upstream: UpstreamApi::Chat,
        upstream_model: model.clone(),
        model,
        stream: stream.unwrap_or(true),
        request_id: id.to_owned(),
        created: Timestamp::now().as_second(),
        request: Bytes::new(),
    };
    let chat = wire::translate_request(&exchange, &original).map_err(|error| invalid(&error))?;
    let asked = Asked {
        original: Some(&original),
        ..Asked::from(Operation::Chat)
    };
    let answer = gateway.call(id, asked, headers, Full::new(chat)).await?;
    tell::conversation(answer, Exchange { client, ..exchange }).await
}

/// Asks for embeddings.
async fn embed(
    gateway: &Arc<Gateway>,
    (id, form): (&str, EmbedForm),
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, Fault> {
    let Named { model, .. } = read(&body)?;
    let (request, original) = wire::ask_embeddings(form, &body).map_err(|error| invalid(&error))?;
    let asked = Asked {
        original: Some(&original),
        ..Asked::from(Operation::Embedding)
    };
    let answer = gateway.call(id, asked, headers, Full::new(request)).await?;
    tell::embeddings(answer, form, &model).await
}

fn read(body: &Bytes) -> Result<Named, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("The request's body cannot be read: {error}.");
        Fault::new(ErrorKind::InvalidRequest, message)
    })
}

fn invalid(invalid: &InvalidRequest) -> Fault {
    let message = format!("The request is not one of this API: {invalid}.");
    Fault::new(ErrorKind::InvalidRequest, message)
}
