//! Paths: what a path asks for, in the spellings of OpenAI's, Azure's, Anthropic's, vLLM's and Ollama's clients. Pure.

use std::borrow::Cow;

use crate::call::{Operation, Surface};

/// Where clients of Azure name a model in the path.
const DEPLOYMENTS: &str = "/openai/deployments/";
/// What may stand before the path of an operation. Cohere's clients call only its reranking by the second version.
const PREFIXES: [&str; 2] = ["/v1", "/openai/v1"];
/// What stands before the paths of Ollama's API.
const OLLAMA: &str = "/api";
/// Cohere's reranking.
const RERANK_V2: &str = "/v2/rerank";

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// An operation of a model, which the path may name.
    Call(Operation, Option<Cow<'a, str>>),
    /// A conversation over a WebSocket.
    Realtime,
    /// The list of models.
    Models,
    /// One model.
    Model(Cow<'a, str>),
    /// What the caller's key used.
    Usage,
    /// Files and batches.
    Stored(Stored<'a>),
    /// What a client of Ollama's API asks for.
    Ollama(Ollama),
    /// What Prometheus reads.
    Metrics,
    /// Whether the gateway lives.
    Health,
    /// Whether the gateway has something to route by.
    Readiness,
}

/// What a path asks for in Ollama's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ollama {
    /// A chat.
    Chat,
    /// An answer to one prompt.
    Generate,
    /// Embeddings of texts.
    Embed,
    /// The embedding of one prompt, as it was asked for before.
    Embeddings,
    /// The list of models.
    Tags,
    /// One model.
    Show,
    /// The API's version.
    Version,
}

impl Ollama {
    const fn methods(self) -> &'static str {
        match self {
            Self::Chat | Self::Generate | Self::Embed | Self::Embeddings | Self::Show => "POST",
            Self::Tags | Self::Version => "GET",
        }
    }

    /// What a path below `/api` asks for.
    fn of(below: &str) -> Option<Self> {
        Some(match below {
            "/chat" => Self::Chat,
            "/generate" => Self::Generate,
            "/embed" => Self::Embed,
            "/embeddings" => Self::Embeddings,
            "/tags" => Self::Tags,
            "/show" => Self::Show,
            "/version" => Self::Version,
            _ => return None,
        })
    }
}

/// What a path asks for of what the gateway keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    /// The list of files, and uploads.
    Files,
    /// One file.
    File(&'a str),
    /// What is in it.
    Content(&'a str),
    /// The list of batches, and new ones.
    Batches,
    /// One batch.
    Batch(&'a str),
    /// The end of one.
    Cancel(&'a str),
}

impl Stored<'_> {
    const fn methods(self) -> &'static str {
        match self {
            Self::Files | Self::Batches => "GET, POST",
            Self::File(_) => "GET, DELETE",
            Self::Content(_) | Self::Batch(_) => "GET",
            Self::Cancel(_) => "POST",
        }
    }
}

impl Place<'_> {
    /// The methods that it allows.
    pub(crate) const fn methods(&self) -> &'static str {
        match self {
            Self::Call(..) => "POST",
            Self::Stored(stored) => stored.methods(),
            Self::Ollama(ollama) => ollama.methods(),
            Self::Realtime
            | Self::Models
            | Self::Model(_)
            | Self::Usage
            | Self::Metrics
            | Self::Health
            | Self::Readiness => "GET",
        }
    }

    /// Whose API it belongs to.
    pub(crate) const fn surface(&self) -> Surface {
        match self {
            Self::Call(operation, _) => operation.surface(),
            Self::Ollama(_) => Surface::Ollama,
            _ => Surface::OpenAi,
        }
    }
}

/// What a path asks for; `None` if there is nothing.
pub(crate) fn place(path: &str) -> Option<Place<'_>> {
    if let Some(below) = path.strip_prefix(PREFIXES[0])
        && let Some(operation) = operation(below)
    {
        return Some(Place::Call(operation, None));
    }
    match path {
        "/healthz" => return Some(Place::Health),
        "/readyz" => return Some(Place::Readiness),
        "/metrics" => return Some(Place::Metrics),
        "/v1/usage" => return Some(Place::Usage),
        RERANK_V2 => return Some(Place::Call(Operation::Rerank, None)),
        _ => {}
    }
    if let Some(below) = path.strip_prefix(OLLAMA) {
        return Ollama::of(below).map(Place::Ollama);
    }
    if let Some(rest) = path.strip_prefix(DEPLOYMENTS) {
        let (name, below) = rest.split_at(rest.find('/')?);
        let operation = operation(below)?;
        let name = decode_percent(name).filter(|name| !name.is_empty())?;
        return Some(Place::Call(operation, Some(name)));
    }
    let below = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix));
    let below = below.unwrap_or(path);
    if let Some(operation) = operation(below) {
        return Some(Place::Call(operation, None));
    }
    if below == Operation::Realtime.path() {
        return Some(Place::Realtime);
    }
    if let Some(stored) = stored(below) {
        return Some(Place::Stored(stored));
    }
    match below.strip_prefix("/models")? {
        "" => Some(Place::Models),
        rest => {
            let name = rest.strip_prefix('/').filter(|name| !name.is_empty())?;
            decode_percent(name).map(Place::Model)
        }
    }
}

/// What a path below `/v1` asks for of what the gateway keeps.
fn stored(below: &str) -> Option<Stored<'_>> {
    let mut parts = below.strip_prefix('/')?.split('/');
    let parts = (parts.next()?, parts.next(), parts.next(), parts.next());
    match parts {
        ("files", None, None, None) => Some(Stored::Files),
        ("batches", None, None, None) => Some(Stored::Batches),
        (_, Some(""), ..) => None,
        ("files", Some(id), None, None) => Some(Stored::File(id)),
        ("files", Some(id), Some("content"), None) => Some(Stored::Content(id)),
        ("batches", Some(id), None, None) => Some(Stored::Batch(id)),
        ("batches", Some(id), Some("cancel"), None) => Some(Stored::Cancel(id)),
        _ => None,
    }
}

/// The operation of a path below `/v1`.
fn operation(below: &str) -> Option<Operation> {
    let mut all = Operation::ALL.into_iter();
    let found = all.find(|operation| operation.path() == below);
    found.filter(|operation| *operation != Operation::Realtime)
}

/// A part of a path without its escapes; `None` if one is broken or the bytes are no text.
pub(crate) fn decode_percent(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        decoded.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::{Ollama, Place, Stored, place};
    use crate::call::Operation;

    #[track_caller]
    fn check(path: &str, expected: impl Into<Option<Place<'static>>>) {
        assert_eq!(place(path), expected.into(), "{path}");
    }

    #[test]
    fn an_operation_is_known_by_the_paths_of_all_clients() {
        let call = |operation| Place::Call(operation, None);
        let is_posted = |operation: &Operation| *operation != Operation::Realtime;
        for operation in Operation::ALL.into_iter().filter(is_posted) {
            for prefix in ["", "/v1", "/openai/v1"] {
                check(&format!("{prefix}{}", operation.path()), call(operation));
            }
            let azure = format!("/openai/deployments/a%2Fb{}", operation.path());
            check(&azure, Some(Place::Call(operation, Some("a/b".into()))));
        }
        check("/v2/rerank", call(Operation::Rerank));
    }

    #[test]
    fn lists_and_models_are_known() {
        check("/v1/realtime", Some(Place::Realtime));
        check("/v1/models", Some(Place::Models));
        check("/models", Some(Place::Models));
        check("/v1/models/a/b", Some(Place::Model("a/b".into())));
        check("/v1/models/a%2Fb%3a", Some(Place::Model("a/b:".into())));
        check("/v1/usage", Some(Place::Usage));
        check("/api/tags", Some(Place::Ollama(Ollama::Tags)));
        check("/api/chat", Some(Place::Ollama(Ollama::Chat)));
        check("/healthz", Some(Place::Health));
    }

    #[test]
    fn files_and_batches_are_known() {
        let check = |path: &str, expected: Option<Stored<'static>>| {
            check(path, expected.map(Place::Stored));
        };
        check("/v1/files", Some(Stored::Files));
        check("/files", Some(Stored::Files));
        check("/openai/v1/files/a", Some(Stored::File("a")));
        check("/v1/files/a/content", Some(Stored::Content("a")));
        check("/v1/batches", Some(Stored::Batches));
        check("/v1/batches/a", Some(Stored::Batch("a")));
        check("/v1/batches/a/cancel", Some(Stored::Cancel("a")));
        for path in ["/v1/files/", "/v1/files/a/b", "/v1/batches/a/cancel/b"] {
            check(path, None);
        }
    }

    #[test]
    fn anything_else_is_nothing() {
        for path in [
            "",
            "/",
            "/v1",
            "/v2/chat/completions",
            "/v1/chat/completions/",
            "/v1/engines/a/completions",
            "/v1/models/",
            "/v1/models/%",
            "/v1/models/%f",
            "/v1/models/%ff",
            "/v1/modelsa",
            "/api",
            "/api/pull",
            "/api/chat/completions",
            "/openai/deployments//chat/completions",
            "/openai/deployments/a",
            "/openai/deployments/a/nothing",
        ] {
            check(path, None);
        }
    }
}
