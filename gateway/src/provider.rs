//! Providers: where a request to a target goes, what lets the gateway in, and whose API is spoken there.
//!
//! One file each with the same verbs. What a provider answers itself passes through; the rest is translated by `wire`.

mod anthropic;
mod azure;
pub(crate) mod openai;
mod path;
mod quirks;
mod way;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use protocol::{
    openai::ErrorKind,
    provider::{self as wanted, Api, Credential},
    snapshot::Target,
    vendor::{self, Quirks, Vendor},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::azure::Azure;
pub(crate) use self::way::Way;
use crate::{
    call::{Call, Operation, Surface},
    decode::Decoded,
    endpoint::Endpoint,
    fault::Fault,
    wire::{self, Exchange},
};

/// A target's provider.
#[derive(Debug)]
pub(crate) struct Provider {
    kind: Kind,
    /// What every request carries, credentials included.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers of clients that are passed on.
    passed: Vec<HeaderName>,
    /// By operation.
    ways: [Way; Operation::ALL.len()],
    quirks: Option<&'static Quirks>,
}

#[derive(Debug)]
enum Kind {
    OpenAi,
    Azure(Azure),
    Anthropic,
}

/// What an upstream is asked for.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    /// The operation, in the upstream's API if it has it.
    operation: Operation,
    /// The model's name there.
    model: &'a str,
}

/// A request on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The body.
    pub(crate) body: Bytes,
    /// What has to be translated back; `None` if the upstream speaks the client's API.
    pub(crate) exchange: Option<Box<Exchange>>,
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
    /// A provider that this gateway cannot reach.
    #[error("the provider is not known to this gateway")]
    Unknown,
}

impl Provider {
    /// The provider of a target.
    ///
    /// # Errors
    /// [`InvalidProvider`]; no request can be sent to the target.
    pub(crate) fn compile(target: &Target) -> Result<Self, InvalidProvider> {
        let vendor = target.vendor.as_deref();
        let vendor = vendor
            .map(|name| vendor::find(name).ok_or_else(|| InvalidProvider::Vendor(name.to_owned())))
            .transpose()?;
        let (kind, apis) = match &target.provider {
            wanted::Provider::OpenAI => (Kind::OpenAi, openai_apis(target, vendor)),
            wanted::Provider::AzureOpenAI { api_version } => {
                let azure = Azure::new(api_version.clone());
                let apis = match target.apis.is_empty() {
                    true => azure.apis().to_vec(),
                    false => target.apis.clone(),
                };
                (Kind::Azure(azure), apis)
            }
            wanted::Provider::Anthropic => (Kind::Anthropic, anthropic::APIS.to_vec()),
            wanted::Provider::Bedrock { .. }
            | wanted::Provider::Gemini
            | wanted::Provider::VertexAI { .. }
            | wanted::Provider::Ollama => return Err(InvalidProvider::Unknown),
        };
        let mut headers = kind.headers(target.credential.as_ref(), vendor)?;
        for extra in &target.headers {
            headers.push(header(&extra.name, extra.value.expose())?);
        }
        let passed = match &kind {
            Kind::Anthropic => anthropic::PASSED.to_vec(),
            Kind::OpenAi | Kind::Azure(_) => vendor.map_or_else(Vec::new, passed),
        };
        Ok(Self {
            ways: Operation::ALL.map(|operation| kind.way(operation, &apis)),
            quirks: vendor
                .map(|vendor| &vendor.quirks)
                .filter(|quirks| !quirks.is_empty()),
            kind,
            headers,
            passed,
        })
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
        let (client, upstream) = match self.ways[call.operation as usize] {
            Way::Native => {
                let body = openai::encode_request(decoded, model);
                return Ok(Outgoing {
                    body: self.apply_quirks(body),
                    exchange: None,
                });
            }
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
        };
        let body = wire::translate_request(&exchange, &decoded.body).map_err(|invalid| {
            let fault = Fault::new(
                ErrorKind::InvalidRequest,
                format!("The request cannot be put into the words of the model's API: {invalid}."),
            );
            Unsendable::Untranslatable(fault)
        })?;
        Ok(Outgoing {
            body: self.apply_quirks(body),
            exchange: Some(Box::new(exchange)),
        })
    }

    fn apply_quirks(&self, body: Bytes) -> Bytes {
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
    ) -> Option<Uri> {
        match &self.kind {
            Kind::OpenAi | Kind::Anthropic => Some(endpoint.uri(operation).clone()),
            Kind::Azure(azure) => azure.uri(endpoint.url(), Ask { operation, model }),
        }
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
}

impl Outgoing {
    /// What the upstream is asked for, in its API.
    pub(crate) fn operation(&self, call: &Call) -> Operation {
        let exchange = self.exchange.as_ref();
        exchange.map_or(call.operation, |exchange| way::asked(exchange.upstream))
    }
}

impl Kind {
    /// How an operation gets there. A server of OpenAI's API may answer more than is known of it, and says so if not.
    fn way(&self, operation: Operation, apis: &[Api]) -> Way {
        match (self, Way::of(operation, apis)) {
            (Self::OpenAi | Self::Azure(_), Way::Unspoken) => Way::Native,
            (_, way) => way,
        }
    }

    /// What lets the gateway in.
    fn headers(
        &self,
        credential: Option<&Credential>,
        vendor: Option<&Vendor>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidProvider> {
        let Some(credential) = credential else {
            return Ok(Vec::new());
        };
        let Credential::Token(token) = credential else {
            return Err(InvalidProvider::CredentialKind);
        };
        let token = token.expose();
        let name = vendor.and_then(|vendor| vendor.key_header.as_deref());
        let header = match (self, name) {
            (Self::OpenAi, None) => bearer(token)?,
            (Self::OpenAi, Some(name)) => secret(name, token)?,
            (Self::Azure(_), _) => secret(azure::KEY_HEADER, token)?,
            (Self::Anthropic, _) => secret(anthropic::KEY_HEADER, token)?,
        };
        Ok(vec![header])
    }
}

/// What the target says that it answers, or else its vendor; our engine, which has none, answers all.
fn openai_apis(target: &Target, vendor: Option<&Vendor>) -> Vec<Api> {
    match (&*target.apis, vendor) {
        ([], None) => Api::ALL.to_vec(),
        ([], Some(vendor)) => vendor.apis.clone(),
        (apis, _) => apis.to_vec(),
    }
}

fn passed(vendor: &Vendor) -> Vec<HeaderName> {
    // A test parses all names of the file.
    let names = vendor.client_headers.iter();
    names.filter_map(|name| name.parse().ok()).collect()
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidProvider> {
    let invalid = || InvalidProvider::Header(name.to_owned());
    let name: HeaderName = name.parse().map_err(|_| invalid())?;
    let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn secret(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidProvider> {
    header(name, value).map_err(|_| InvalidProvider::Credential)
}

fn bearer(token: &str) -> Result<(HeaderName, HeaderValue), InvalidProvider> {
    secret(header::AUTHORIZATION.as_str(), &format!("Bearer {token}"))
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
