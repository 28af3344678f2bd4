//! The head of a request as another gateway shows it: what is asked for, by whom, and which endpoints may be picked. Pure.

use std::{collections::HashSet, net::SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use protocol::openai::ErrorKind;

use super::message::{self, BodyMode, Kind, Metadata, ProtocolConfiguration};
use crate::{
    call::Operation,
    decode::is_form,
    fault::Fault,
    paths::{Place, place},
};

/// The metadata that says which endpoints may be picked.
const SUBSET_HINT: &str = "envoy.lb.subset_hint";
/// Its field with the endpoints.
const SUBSET: &str = "x-gateway-destination-endpoint-subset";
/// The field of the load balancer's metadata that says who has answered.
const SERVED: &str = "x-gateway-destination-endpoint-served";
/// Endpoints of a subset that are read.
const SUBSET_MAX: usize = 4096;
/// What stands before the part of a path that says what is asked for, where other gateways have prefixes of their own.
const BASE: &str = "/v1/";

/// The endpoints that may be picked; all if there are none given.
pub(crate) type Subset = Option<HashSet<SocketAddr>>;

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// What is asked for.
    pub(super) operation: Operation,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
    /// The headers but for those that HTTP/2 makes of the first line.
    pub(super) headers: HeaderMap,
}

/// How the two bodies are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Modes {
    /// The request's.
    pub(super) request: BodyMode,
    /// The answer's.
    pub(super) response: BodyMode,
}

impl Modes {
    /// The modes that the other side is set to. One that does not say streams, as the extension asks for.
    pub(super) fn of(told: Option<ProtocolConfiguration>) -> Self {
        told.map_or(
            Self {
                request: BodyMode::FullDuplexStreamed,
                response: BodyMode::FullDuplexStreamed,
            },
            |told| Self {
                request: told.request_body_mode(),
                response: told.response_body_mode(),
            },
        )
    }
}

impl Head {
    /// Reads a request's head.
    ///
    /// # Errors
    /// No replica can be picked for what is asked for.
    pub(super) fn read(shown: &message::HttpHeaders) -> Result<Self, Fault> {
        let (mut method, mut path) = (None, "");
        let mut headers = HeaderMap::new();
        for header in shown.headers.iter().flat_map(|map| &map.headers) {
            let value = value_of(header);
            match header.key.as_str() {
                ":method" => method = Method::from_bytes(value).ok(),
                ":path" => path = std::str::from_utf8(value).unwrap_or_default(),
                name => {
                    if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
                        && let Ok(value) = HeaderValue::from_bytes(value)
                    {
                        headers.append(name, value);
                    }
                }
            }
        }
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let (operation, model) = asked(path).ok_or_else(|| {
            let message =
                format!("No replica is picked for {path}: it is no operation of a model.");
            Fault::new(ErrorKind::NotFound, message)
        })?;
        if method != Some(Method::POST) || shown.end_of_stream {
            let message = "A replica is picked for requests with a body, which names the model.";
            return Err(Fault::new(ErrorKind::InvalidRequest, message));
        }
        if is_form(headers.get(http::header::CONTENT_TYPE)) {
            let message = "No replica is picked for forms; send them through this gateway.";
            return Err(Fault::new(ErrorKind::InvalidRequest, message));
        }
        Ok(Self {
            operation,
            model,
            headers,
        })
    }
}

/// What a path asks for, whatever prefix it has.
fn asked(path: &str) -> Option<(Operation, Option<String>)> {
    let bare = path.find(BASE).map(|at| path.get(at..).unwrap_or_default());
    let mut paths = [Some(path), bare].into_iter().flatten();
    paths.find_map(|path| match place(path) {
        Some(Place::Call(operation, model)) => {
            Some((operation, model.map(std::borrow::Cow::into_owned)))
        }
        _ => None,
    })
}

/// A header's value, in whichever field it is.
pub(super) fn value_of(header: &message::HeaderValue) -> &[u8] {
    if header.raw_value.is_empty() {
        header.value.as_bytes()
    } else {
        &header.raw_value
    }
}

/// The endpoints that may be picked, as the metadata says: a list, or a text with commas.
pub(super) fn subset(metadata: Option<&Metadata>) -> Subset {
    match field(metadata, SUBSET_HINT, SUBSET)? {
        Kind::List(list) => {
            let values = list.values.iter().take(SUBSET_MAX);
            let texts = values.filter_map(|value| match value.kind.as_ref()? {
                Kind::Text(text) => Some(text.as_str()),
                Kind::Struct(_) | Kind::List(_) => None,
            });
            Some(addresses(texts))
        }
        Kind::Text(text) => Some(addresses(text.split(',').take(SUBSET_MAX))),
        // What cannot be read allows nothing.
        Kind::Struct(_) => Some(HashSet::new()),
    }
}

/// Who has answered, if the metadata says so.
pub(super) fn served(metadata: Option<&Metadata>) -> Option<SocketAddr> {
    match field(metadata, super::LOAD_BALANCER, SERVED)? {
        Kind::Text(text) => text.trim().parse().ok(),
        Kind::Struct(_) | Kind::List(_) => None,
    }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> HashSet<SocketAddr> {
    texts.filter_map(|text| text.trim().parse().ok()).collect()
}

fn field<'a>(metadata: Option<&'a Metadata>, filter: &str, name: &str) -> Option<&'a Kind> {
    let known = metadata?.filter_metadata.get(filter)?;
    known.fields.get(name)?.kind.as_ref()
}

#[cfg(test)]
mod tests;
