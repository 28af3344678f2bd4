//! Kinds of providers: one arm for each file, for each of their verbs.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Uri, header};
use protocol::{
    provider::{Api, Credential, Provider as Wanted},
    secret::SecretString,
    snapshot::Target,
    vendor::Vendor,
};

use super::{
    Ask, InvalidProvider, Seal, anthropic,
    azure::Azure,
    bedrock, gemini, ollama,
    service_account::ServiceAccounts,
    sigv4::Signer,
    vertex::{self, Vertex},
    way::Way,
};
use crate::{
    call::Operation,
    endpoint::Endpoint,
    wire::{EmbeddingsApi, UpstreamApi},
};

/// A header that every request carries.
pub(super) type Header = (HeaderName, HeaderValue);

/// Whose API is spoken.
#[derive(Debug)]
pub(super) enum Kind {
    /// OpenAI's.
    OpenAi,
    /// Azure's variant of it.
    Azure(Azure),
    /// Anthropic's.
    Anthropic,
    /// Bedrock's.
    Bedrock,
    /// That of Google AI Studio.
    Gemini,
    /// Vertex AI's, for models of Google's.
    Vertex(Vertex),
    /// Vertex AI's, for models of Anthropic's.
    VertexAnthropic(Vertex),
    /// Ollama's.
    Ollama,
}

impl Kind {
    /// The kind of a target's provider.
    pub(super) fn of(target: &Target) -> Self {
        match &target.provider {
            Wanted::OpenAI => Self::OpenAi,
            Wanted::AzureOpenAI { api_version } => Self::Azure(Azure::new(api_version.clone())),
            Wanted::Anthropic => Self::Anthropic,
            Wanted::Bedrock { .. } => Self::Bedrock,
            Wanted::Gemini => Self::Gemini,
            Wanted::VertexAI { project, location } => {
                let vertex = Vertex::new(project, location);
                match vertex::is_anthropic(&target.model) {
                    true => Self::VertexAnthropic(vertex),
                    false => Self::Vertex(vertex),
                }
            }
            Wanted::Ollama => Self::Ollama,
        }
    }

    /// How an operation gets there. A server of OpenAI's API may answer more than is known of it, and says so if not.
    pub(super) fn way(&self, operation: Operation, apis: &[Api], model: &str) -> Way {
        if operation == Operation::Embedding
            && let Some(api) = self.embeddings(model)
        {
            return Way::Embedded(api);
        }
        match self {
            Self::OpenAi | Self::Azure(_) => match Way::of(operation, apis) {
                Way::Unspoken => Way::Native,
                way => way,
            },
            Self::Anthropic => Way::of(operation, &anthropic::APIS),
            Self::VertexAnthropic(_) => Way::of(operation, &[Api::Messages]),
            Self::Bedrock => Way::to(operation, UpstreamApi::Bedrock),
            Self::Gemini | Self::Vertex(_) => Way::to(operation, UpstreamApi::Gemini),
            Self::Ollama => match Way::of(operation, &ollama::APIS) {
                Way::Native => Way::Native,
                _ => Way::to(operation, UpstreamApi::Ollama),
            },
        }
    }

    /// By which API of its own it makes embeddings with a model.
    pub(super) fn embeddings(&self, model: &str) -> Option<EmbeddingsApi> {
        match self {
            Self::Gemini => Some(EmbeddingsApi::Gemini),
            Self::Vertex(_) => Some(EmbeddingsApi::Vertex),
            Self::Bedrock => EmbeddingsApi::at_bedrock(model),
            Self::Ollama => Some(EmbeddingsApi::Ollama),
            Self::OpenAi | Self::Azure(_) | Self::Anthropic | Self::VertexAnthropic(_) => None,
        }
    }

    /// What of OpenAI's and Anthropic's APIs it answers, as the target, its vendor, or its kind say; our engine, which is
    /// none of these, answers all.
    pub(super) fn apis(&self, target: &Target, vendor: Option<&Vendor>) -> Vec<Api> {
        match (&*target.apis, self, vendor) {
            ([], Self::Azure(azure), _) => azure.apis().to_vec(),
            ([], _, Some(vendor)) => vendor.apis.clone(),
            ([], _, None) => Api::ALL.to_vec(),
            (apis, ..) => apis.to_vec(),
        }
    }

    /// Where a request goes; `None` if the model's name makes no URL.
    pub(super) fn uri(&self, endpoint: &Endpoint, ask: Ask<'_>) -> Option<Uri> {
        let base = endpoint.url();
        match self {
            Self::OpenAi | Self::Anthropic => Some(endpoint.uri(ask.operation).clone()),
            Self::Azure(azure) => azure.uri(base, ask),
            Self::Bedrock => bedrock::uri(base, ask),
            Self::Gemini => gemini::uri(base, ask),
            Self::Ollama => ollama::uri(base, ask),
            Self::Vertex(vertex) | Self::VertexAnthropic(vertex) => vertex.uri(base, ask),
        }
    }

    /// A body as the provider wants it.
    pub(super) fn shape(&self, body: Bytes) -> Bytes {
        match self {
            Self::VertexAnthropic(_) => vertex::shape(body),
            Self::OpenAi
            | Self::Azure(_)
            | Self::Anthropic
            | Self::Bedrock
            | Self::Gemini
            | Self::Vertex(_)
            | Self::Ollama => body,
        }
    }

    /// Headers of clients that are passed on.
    pub(super) fn passed(&self, vendor: Option<&Vendor>) -> Vec<HeaderName> {
        match self {
            Self::Anthropic | Self::VertexAnthropic(_) => anthropic::PASSED.to_vec(),
            Self::OpenAi | Self::Azure(_) => {
                let names = vendor.map_or(&[][..], |vendor| &vendor.client_headers);
                // A test parses all names of the file.
                names.iter().filter_map(|name| name.parse().ok()).collect()
            }
            Self::Bedrock | Self::Gemini | Self::Vertex(_) | Self::Ollama => Vec::new(),
        }
    }

    /// What lets the gateway in: a header, or what is made for each request.
    pub(super) fn let_in(
        &self,
        target: &Target,
        vendor: Option<&Vendor>,
        accounts: &ServiceAccounts,
    ) -> Result<(Vec<Header>, Seal), InvalidProvider> {
        let seal = match (&target.credential, &target.provider) {
            (None, _) => return Ok((Vec::new(), Seal::None)),
            (Some(Credential::Token(token)), _) => {
                return Ok((vec![self.key(token, vendor)?], Seal::None));
            }
            (Some(Credential::ServiceAccount { service_account }), Wanted::VertexAI { .. }) => {
                let account = accounts.get(service_account);
                Seal::Google(account.ok_or(InvalidProvider::Credential)?)
            }
            (
                Some(Credential::Aws {
                    access_key_id,
                    secret_access_key,
                    session_token,
                }),
                Wanted::Bedrock { region },
            ) => {
                let keys = (access_key_id, secret_access_key);
                let signer = Signer::new(keys, session_token.as_ref(), region, bedrock::SERVICE);
                Seal::Amazon(Arc::new(signer.ok_or(InvalidProvider::Credential)?))
            }
            (Some(_), _) => return Err(InvalidProvider::CredentialKind),
        };
        Ok((Vec::new(), seal))
    }

    /// The header with an API key or a token.
    fn key(
        &self,
        token: &SecretString,
        vendor: Option<&Vendor>,
    ) -> Result<Header, InvalidProvider> {
        let token = token.expose();
        let bearer = || secret(header::AUTHORIZATION.as_str(), &format!("Bearer {token}"));
        match self {
            Self::OpenAi => match vendor.and_then(|vendor| vendor.key_header.as_deref()) {
                Some(name) => secret(name, token),
                None => bearer(),
            },
            Self::Azure(_) => secret(super::azure::KEY_HEADER, token),
            Self::Anthropic => secret(anthropic::KEY_HEADER, token),
            Self::Gemini => secret(gemini::KEY_HEADER, token),
            Self::Bedrock | Self::Vertex(_) | Self::VertexAnthropic(_) | Self::Ollama => bearer(),
        }
    }
}

/// A header whose value is shown to nobody.
pub(super) fn header(name: &str, value: &str) -> Result<Header, InvalidProvider> {
    let invalid = || InvalidProvider::Header(name.to_owned());
    let name: HeaderName = name.parse().map_err(|_| invalid())?;
    let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn secret(name: &str, value: &str) -> Result<Header, InvalidProvider> {
    header(name, value).map_err(|_| InvalidProvider::Credential)
}
