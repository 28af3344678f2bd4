//! Providers: where a request to a target goes, what lets the gateway in, and whose API is spoken there.
//!
//! One file each with the same verbs. What a provider answers itself passes through; the rest is translated by `wire`.

mod anthropic;
mod azure;
mod bedrock;
mod gemini;
mod kind;
mod marks;
mod name;
mod object;
mod ollama;
pub(crate) mod openai;
mod path;
mod quirks;
mod seal;
mod sigv4;
mod vertex;
mod way;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use protocol::{
    openai::ErrorKind,
    provider::Credential,
    snapshot::{PromptCache, Target},
    vendor::{self, Quirks},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use self::{bedrock::SERVICE as BEDROCK, path::segment, sigv4::Signer};
use self::{kind::Kind, seal::Seal, way::Way};
use crate::{
    call::{Call, Operation, Surface},
    decode::Decoded,
    endpoint::Endpoint,
    fault::Fault,
    identity::{Identities, NoToken},
    upstream::Upstream,
    wire::{self, Back, EmbeddingsApi, EmbeddingsExchange, Exchange, InvalidRequest, UpstreamApi},
};

/// A target's provider.
#[derive(Debug)]
pub(crate) struct Provider {
    kind: Kind,
    name: &'static str,
    /// What every request carries, credentials included.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers of clients that are passed on.
    passed: Vec<HeaderName>,
    /// By operation.
    ways: [Way; Operation::ALL.len()],
    quirks: Option<&'static Quirks>,
    /// Whether marks for caches are put in for clients that put in none.
    marks_cache: bool,
    seal: Seal,
}

/// What an upstream is asked for.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    /// The operation, in the upstream's API if it has it.
    operation: Operation,
    /// The model's name there.
    model: &'a str,
    /// Whether the answer is streamed.
    is_stream: bool,
}

/// A request on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The body.
    pub(crate) body: Bytes,
    /// What has to be translated back; `None` if the upstream speaks the client's API.
    pub(crate) back: Option<Box<Back>>,
}

/// Why a request cannot be sent to a target.
#[derive(Debug)]
pub(crate) enum Unsendable {
    /// The target answers nothing that this could be translated to; another one may.
    Unspoken,
    /// The target's API has no words for it.
    Untranslatable(Fault),
}

/// What is wrong with a provider.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum InvalidProvider {
    /// A vendor that this gateway does not know.
    #[error("the vendor `{0}` is not known to this gateway")]
    Vendor(String),
    /// A credential that no header can carry.
    #[error("the credential holds characters that no header can carry")]
    Credential,
    /// A credential of another kind than the provider's.
    #[error("the credential is none that the provider takes")]
    CredentialKind,
    /// A header that cannot be sent.
    #[error("the header `{0}` cannot be sent")]
    Header(String),
}

impl Provider {
    /// The provider of a target.
    ///
    /// # Errors
    /// [`InvalidProvider`]; no request can be sent to the target.
    pub(crate) fn compile(
        namespace: &str,
        target: &Target,
        identities: &Identities,
    ) -> Result<Self, InvalidProvider> {
        let vendor = target.vendor.as_deref();
        let vendor = vendor
            .map(|name| vendor::find(name).ok_or_else(|| InvalidProvider::Vendor(name.to_owned())))
            .transpose()?;
        let kind = Kind::of(target);
        let apis = kind.apis(target, vendor);
        let (mut headers, seal) = match &target.credential {
            None => (Vec::new(), Seal::None),
            Some(Credential::Token(token)) => (vec![kind.key(token, vendor)?], Seal::None),
            Some(credential) => {
                let seal = Seal::of(namespace, target, credential, identities)?;
                (Vec::new(), seal)
            }
        };
        for extra in &target.headers {
            headers.push(kind::header(&extra.name, extra.value.expose())?);
        }
        Ok(Self {
            ways: Operation::ALL.map(|operation| kind.way(operation, &apis, &target.model)),
            quirks: vendor
                .map(|vendor| &vendor.quirks)
                .filter(|quirks| !quirks.is_empty()),
            passed: kind.passed(vendor),
            marks_cache: target.prompt_cache == PromptCache::Automatic,
            name: name::of(&kind, vendor),
            kind,
            headers,
            seal,
        })
    }

    /// Its name in metrics and spans.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// The body of a request for this provider.
    ///
    /// # Errors
    /// [`Unsendable`]; the upstream was not asked then.
    pub(crate) fn encode_request(
        &self,
        call: &Call,
        decoded: &Decoded,
        model: &str,
    ) -> Result<Outgoing, Unsendable> {
        let (client, upstream) = match self.way(call.operation, model) {
            Way::Native => {
                let body = openai::encode_request(decoded, model);
                let body = match self.marks_cache && call.operation == Operation::Message {
                    true => marks::put_in(body),
                    false => body,
                };
                return Ok(Outgoing {
                    body: self.shape(body),
                    back: None,
                });
            }
            Way::Embedded(api) => return self.encode_embeddings(api, decoded, model),
            Way::Translated { client, upstream } => (client, upstream),
            Way::Unspoken => return Err(Unsendable::Unspoken),
        };
        let exchange = Exchange {
            client,
            upstream,
            model: decoded.fields.model.clone(),
            upstream_model: model.to_owned(),
            stream: decoded.fields.stream,
            request_id: call.id.clone(),
            created: call.started_at.as_second(),
            marks_cache: self.marks_cache,
            request: decoded.body.clone(),
        };
        let own = decoded.original.as_ref();
        let body = match own.filter(|_| upstream == UpstreamApi::Ollama) {
            // What came in the upstream's own API goes out so, with all that only this API knows.
            Some(original) => wire::with_model(original, model),
            None => wire::translate_request(&exchange, &decoded.body),
        };
        Ok(Outgoing {
            body: self.shape(body.map_err(|invalid| untranslatable(&invalid))?),
            back: Some(Box::new(Back::Conversation(exchange))),
        })
    }

    /// How an operation gets there with a model.
    fn way(&self, operation: Operation, model: &str) -> Way {
        if operation == Operation::Embedding
            // What was compiled for a target that has many models cannot know which one embeds.
            && let Some(api) = self.kind.embeddings(model)
        {
            return Way::Embedded(api);
        }
        self.ways[operation as usize]
    }

    fn encode_embeddings(
        &self,
        api: EmbeddingsApi,
        decoded: &Decoded,
        model: &str,
    ) -> Result<Outgoing, Unsendable> {
        let exchange = EmbeddingsExchange {
            api,
            model: decoded.fields.model.clone(),
            upstream_model: model.to_owned(),
            request: decoded.body.clone(),
        };
        let own = decoded.original.as_ref();
        let body = match own.filter(|_| api == EmbeddingsApi::Ollama) {
            Some(original) => wire::with_model(original, model),
            None => wire::translate_embeddings_request(&exchange),
        };
        Ok(Outgoing {
            body: self.shape(body.map_err(|invalid| untranslatable(&invalid))?),
            back: Some(Box::new(Back::Embeddings(exchange))),
        })
    }

    /// Whether others can ask it for an operation as clients ask for it: in their own API, without a credential, and with
    /// nothing taken out or put in.
    pub(crate) const fn is_open(&self, operation: Operation) -> bool {
        matches!(self.kind, Kind::OpenAi)
            && matches!(self.ways[operation as usize], Way::Native)
            && matches!(self.seal, Seal::None)
            && self.headers.is_empty()
            && self.quirks.is_none()
    }

    /// Whether it has an API that answers an operation, as far as is known.
    pub(crate) const fn answers(&self, operation: Operation) -> bool {
        !matches!(self.ways[operation as usize], Way::Unspoken)
    }

    fn shape(&self, body: Bytes) -> Bytes {
        let body = self.kind.shape(body);
        match self.quirks {
            None => body,
            Some(quirks) => quirks::apply(quirks, body),
        }
    }

    /// Where a request goes; `None` if the model's name makes no URL.
    pub(crate) fn uri(
        &self,
        endpoint: &Endpoint,
        operation: Operation,
        model: &str,
        is_stream: bool,
    ) -> Option<Uri> {
        let ask = Ask {
            operation,
            model,
            is_stream,
        };
        self.kind.uri(endpoint, ask)
    }

    /// Where its files and batches are; `None` if it has none that are known.
    pub(crate) fn batches_uri(&self, endpoint: &Endpoint, path: &str) -> Option<Uri> {
        self.kind.batches(endpoint.url(), path)
    }

    /// How lines of a batch there name an endpoint.
    pub(crate) fn batch_endpoint<'a>(&self, endpoint: &'a str) -> &'a str {
        self.kind.batch_endpoint(endpoint)
    }

    /// Adds what lets the gateway in, and the headers of the client that the provider may see.
    pub(crate) fn authorize(
        &self,
        operation: Operation,
        client: &HeaderMap,
        headers: &mut HeaderMap,
    ) {
        if operation.surface() == Surface::Anthropic {
            headers.insert(anthropic::VERSION_HEADER, anthropic::VERSION);
        }
        for name in &self.passed {
            for (place, value) in client.get_all(name).into_iter().enumerate() {
                if place == 0 {
                    headers.insert(name.clone(), value.clone());
                } else {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        // Last, so that no client can take their place.
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Adds what is made for each request; nothing for most providers.
    ///
    /// # Errors
    /// [`NoToken`] if the provider wants an access token and there is none.
    pub(crate) async fn seal<B>(
        &self,
        request: &mut Request<B>,
        body: &Bytes,
        upstream: &Upstream,
    ) -> Result<(), NoToken> {
        self.seal.put(request, body, upstream).await
    }

    /// Notes that the provider refused the gateway's credential, so that the next request shows a fresh one.
    pub(crate) fn note_unauthorized(&self) {
        self.seal.forget();
    }
}

fn untranslatable(invalid: &InvalidRequest) -> Unsendable {
    let fault = Fault::new(
        ErrorKind::InvalidRequest,
        format!("The request cannot be put into the words of the model's API: {invalid}."),
    );
    Unsendable::Untranslatable(fault)
}

impl Outgoing {
    /// What the upstream is asked for, in its API.
    pub(crate) fn operation(&self, call: &Call) -> Operation {
        match self.back.as_deref().and_then(Back::conversation) {
            Some(exchange) => way::asked(exchange.upstream),
            None => call.operation,
        }
    }
}

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// Tokens of the prompt.
    pub(crate) prompt: u64,
    /// Tokens of the answer.
    pub(crate) completion: u64,
    /// Tokens of the prompt that the upstream had cached, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cached: Option<u64>,
}

impl Tokens {
    /// Those of the prompt and those of the answer.
    pub(crate) fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// What two events of one stream say together: counts only grow.
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.max(other.prompt),
            completion: self.completion.max(other.completion),
            cached: self.cached.max(other.cached),
        }
    }
}
