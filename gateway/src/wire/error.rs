//! Errors of upstreams, in the words of the client's API.

use bytes::Bytes;
use protocol::{
    anthropic,
    openai::{ErrorBody, ErrorDetail, ErrorKind},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ClientApi, json::Json, to_body};

/// What an upstream says went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UpstreamFault {
    /// The class of fault.
    pub(super) kind: ErrorKind,
    /// The upstream's words.
    pub(super) message: String,
    /// The parameter at fault.
    pub(super) param: Option<String>,
    /// The upstream's word for programs, where its API has one that clients of OpenAI know.
    pub(super) code: Option<String>,
}

impl UpstreamFault {
    /// A fault without details.
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            code: None,
        }
    }

    /// The error object of OpenAI's API.
    pub(super) fn openai_body(self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message,
                kind: self.kind.kind().to_owned(),
                param: self.param,
                code: Some(self.code.unwrap_or_else(|| self.kind.code().to_owned())),
            },
        }
    }

    /// The error object of Anthropic's API.
    pub(super) fn anthropic_body(self) -> anthropic::ErrorBody {
        anthropic::ErrorBody::new(self.kind, self.message)
    }
}

/// The body of an error in the client's shape: the upstream's words, and the type that the status has there.
pub(crate) fn translate_error(client: ClientApi, status: u16, body: &[u8]) -> Bytes {
    let fault = read_error(status, body);
    match client {
        ClientApi::Chat | ClientApi::Responses | ClientApi::Completions => {
            to_body(&fault.openai_body())
        }
        ClientApi::Ollama | ClientApi::Generate => to_body(&json!({"error": fault.message})),
        ClientApi::Messages => to_body(&fault.anthropic_body()),
    }
}

/// The shapes that errors have: OpenAI's, Anthropic's, Google's, Amazon's, Ollama's, and those of web frameworks.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnyError {
    error: Option<Json>,
    #[serde(alias = "Message")]
    message: Option<Json>,
    detail: Option<Json>,
    code: Option<Value>,
    param: Option<Value>,
}

fn read_error(status: u16, body: &[u8]) -> UpstreamFault {
    let any = serde_json::from_slice::<AnyError>(body)
        .or_else(|_| {
            // Google answers requests for streams with a list of one error.
            let list: Result<Vec<AnyError>, _> = serde_json::from_slice(body);
            list.map(|list| list.into_iter().next().unwrap_or_default())
        })
        .unwrap_or_default();
    let kind = kind_of(status);
    words(any, kind).unwrap_or_else(|| {
        let message = format!("The model's server answered with status {status}.");
        UpstreamFault::new(kind, message)
    })
}

fn words(any: AnyError, kind: ErrorKind) -> Option<UpstreamFault> {
    if let Some(error) = &any.error
        && let Some(inner) = error.read::<AnyError>()
    {
        return words(inner, kind);
    }
    let text = |json: &Json| match json.read::<String>() {
        Some(text) => text,
        None => json.compact(),
    };
    let message = [&any.error, &any.message, &any.detail]
        .into_iter()
        .flatten()
        .map(text)
        .find(|text| !text.is_empty())?;
    let word = |value: Option<Value>| match value {
        Some(Value::String(word)) => Some(word),
        _ => None,
    };
    Some(UpstreamFault {
        kind,
        message,
        param: word(any.param),
        code: word(any.code),
    })
}

/// The class of fault that an upstream's status stands for.
pub(super) const fn kind_of(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::InvalidApiKey,
        402 => ErrorKind::QuotaExceeded,
        403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::NotFound,
        405 => ErrorKind::MethodNotAllowed,
        408 | 504 => ErrorKind::Timeout,
        413 => ErrorKind::RequestTooLarge,
        429 => ErrorKind::RateLimited,
        // 529 is Anthropic's word for overload.
        503 | 529 => ErrorKind::Unavailable,
        400..500 => ErrorKind::InvalidRequest,
        _ => ErrorKind::UpstreamFailed,
    }
}

/// The fault that an event in the middle of a stream tells of: its class is in its words, there is no status.
pub(super) fn in_stream(body: &[u8]) -> UpstreamFault {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Words {
        #[serde(rename = "type")]
        kind: Option<Value>,
        code: Option<Value>,
        error: Option<Box<Self>>,
    }
    let words: Words = serde_json::from_slice(body).unwrap_or_default();
    let words = words.error.map_or_else(Words::default, |error| *error);
    let status = [&words.code, &words.kind]
        .into_iter()
        .flatten()
        .find_map(status_of);
    read_error(status.unwrap_or(502), body)
}

/// The fault that an event of this kind tells of.
pub(super) fn of_kind(kind: &str, body: &[u8]) -> UpstreamFault {
    let status = status_of(&Value::String(kind.to_owned()));
    read_error(status.unwrap_or(502), body)
}

/// The status that a number or a word of an error stands for.
fn status_of(word: &Value) -> Option<u16> {
    if let Some(number) = word.as_u64() {
        return u16::try_from(number)
            .ok()
            .filter(|status| (400..600).contains(status));
    }
    match word.as_str()? {
        "invalid_request_error" | "validationException" => Some(400),
        "authentication_error" => Some(401),
        "billing_error" | "insufficient_quota" => Some(402),
        "permission_error" => Some(403),
        "not_found_error" | "model_not_found" => Some(404),
        "timeout_error" | "modelTimeoutException" => Some(504),
        "request_too_large" => Some(413),
        "rate_limit_error" | "rate_limit_exceeded" | "throttlingException" => Some(429),
        "overloaded_error" | "serviceUnavailableException" => Some(529),
        _ => None,
    }
}
