//! What goes wrong with a request, in OpenAI's shape: the one place that turns faults into HTTP.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine_core::{InvalidSampling, Refused};
use engine_models::InvalidChat;
use protocol::openai::{ErrorBody, ErrorKind};

use crate::runner::Refusal;

/// When to come back if too many wait, in seconds.
const RETRY_BUSY: u64 = 1;
/// When to come back while the model loads, in seconds.
const RETRY_LOADING: u64 = 5;

/// A fault and its answer.
#[derive(Debug)]
pub(super) struct Fault {
    kind: ErrorKind,
    body: ErrorBody,
    retry_after: Option<u64>,
}

impl Fault {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            body: kind.body(message),
            retry_after: None,
        }
    }

    /// The request is wrong in one parameter.
    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        let kind = ErrorKind::InvalidRequest;
        Self {
            kind,
            body: kind.body_for(message, name),
            retry_after: None,
        }
    }

    pub(super) fn unknown_model(name: &str) -> Self {
        let kind = ErrorKind::ModelNotFound;
        Self {
            kind,
            body: kind.body_for(format!("The model `{name}` does not exist."), "model"),
            retry_after: None,
        }
    }

    /// The prompt and the answer do not fit. `parameter` is what holds the prompt.
    pub(super) fn context_length(
        limit: usize,
        prompt: usize,
        answer: usize,
        parameter: &str,
    ) -> Self {
        let kind = ErrorKind::ContextLengthExceeded;
        let total = prompt.saturating_add(answer);
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, you requested {total} tokens \
             ({prompt} in the prompt, {answer} for the answer). Please shorten the prompt or the answer."
        );
        Self {
            kind,
            body: kind.body_for(message, parameter),
            retry_after: None,
        }
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(RETRY_BUSY),
            ..Self::new(ErrorKind::RateLimited, message)
        }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(RETRY_LOADING),
            ..Self::new(ErrorKind::Unavailable, message)
        }
    }

    /// The step loop is gone while a request runs.
    pub(super) fn stopped() -> Self {
        Self::unavailable("The engine is stopping; try again.")
    }
}

impl From<InvalidSampling> for Fault {
    fn from(invalid: InvalidSampling) -> Self {
        let InvalidSampling {
            parameter,
            value,
            range,
        } = invalid;
        Self::parameter(
            parameter,
            format!("`{parameter}` is {value} and must be {range}."),
        )
    }
}

impl From<InvalidChat> for Fault {
    fn from(invalid: InvalidChat) -> Self {
        Self::parameter("messages", invalid.to_string())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Scheduler(refused) => refused.into(),
            Refusal::Asleep => Self::unavailable("The engine sleeps; it must be woken first."),
            Refusal::UnknownAdapter => Self::new(
                ErrorKind::ModelNotFound,
                "The adapter is not loaded any more.",
            ),
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::QueueFull { limit } => Self::busy(format!(
                "The engine is busy: {limit} requests wait already. Try again later."
            )),
            Refused::QueueTokens { limit } => Self::busy(format!(
                "The engine is busy: prompts of {limit} tokens wait already. Try again later."
            )),
            Refused::TooLong { length, limit } => {
                Self::context_length(limit, length, 0, "messages")
            }
            Refused::EmptyPrompt => Self::parameter("prompt", "The prompt has no tokens."),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
