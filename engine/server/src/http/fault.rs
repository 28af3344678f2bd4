//! What goes wrong with a request: the one place that turns faults into HTTP, in OpenAI's shape or in Anthropic's.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine_core::{InvalidSampling, Refused};
use engine_models::InvalidChat;
use protocol::anthropic;
use protocol::openai::{ErrorBody, ErrorKind};

use crate::parse::InvalidTools;
use crate::runner::Refusal;

/// When to come back if too many wait, in seconds.
const RETRY_BUSY: u64 = 1;
/// When to come back while the model loads, in seconds.
const RETRY_LOADING: u64 = 5;

/// A fault and its answer.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    kind: ErrorKind,
    message: String,
    parameter: Option<String>,
    retry_after: Option<u64>,
}

impl Fault {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            parameter: None,
            retry_after: None,
        }
    }

    /// The request is wrong in one parameter.
    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message).of(name)
    }

    /// The same, of this parameter.
    fn of(mut self, name: &str) -> Self {
        self.parameter = Some(name.to_owned());
        self
    }

    pub(super) fn unknown_model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist.");
        Self::new(ErrorKind::ModelNotFound, message).of("model")
    }

    /// The prompt and the answer do not fit. `parameter` is what holds the prompt.
    pub(super) fn context_length(
        limit: usize,
        prompt: usize,
        answer: usize,
        parameter: &str,
    ) -> Self {
        let total = prompt.saturating_add(answer);
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, you requested {total} tokens \
             ({prompt} in the prompt, {answer} for the answer). Please shorten the prompt or the answer."
        );
        Self::new(ErrorKind::ContextLengthExceeded, message).of(parameter)
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

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The step loop is gone while a request runs.
    pub(super) fn stopped() -> Self {
        Self::unavailable("The engine is stopping; try again.")
    }

    #[cfg(test)]
    pub(super) fn parameter_name(&self) -> Option<&str> {
        self.parameter.as_deref()
    }

    /// The fault in the words of an API that has other names for parameters: pairs of our name and theirs.
    pub(super) fn renamed(mut self, names: &[(&str, &str)]) -> Self {
        for (ours, theirs) in names {
            if let Some(parameter) = &mut self.parameter
                && (parameter == ours || parameter.starts_with(&format!("{ours}[")))
            {
                parameter.replace_range(..ours.len(), theirs);
            }
            let (ours, theirs) = (format!("`{ours}`"), format!("`{theirs}`"));
            self.message = self.message.replace(&ours, &theirs);
        }
        self
    }

    /// The kind and the message, for errors in the middle of a stream.
    pub(super) fn into_parts(self) -> (ErrorKind, String) {
        (self.kind, self.message)
    }

    /// The body in OpenAI's shape.
    pub(super) fn body(&self) -> ErrorBody {
        let mut body = self.kind.body(self.message.as_str());
        body.error.param.clone_from(&self.parameter);
        body
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

impl From<InvalidTools> for Fault {
    fn from(invalid: InvalidTools) -> Self {
        Self::parameter(&invalid.parameter, invalid.message)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Scheduler(refused) => refused.into(),
            Refusal::Asleep => Self::unavailable("The engine sleeps; it must be woken first."),
            Refusal::UnknownAdapter => {
                let message = "The adapter is not loaded any more.";
                Self::new(ErrorKind::ModelNotFound, message).of("model")
            }
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
        let mut response = (status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Rewrites faults into Anthropic's shape, on the routes of that API.
pub(super) async fn in_anthropic_shape(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(fault) = response.extensions_mut().remove::<Fault>() else {
        return response;
    };
    let (status, retry) = (
        response.status(),
        response.headers().get(header::RETRY_AFTER).cloned(),
    );
    let body = anthropic::ErrorBody::new(fault.kind, fault.message);
    let mut response = (status, Json(body)).into_response();
    if let Some(retry) = retry {
        response.headers_mut().insert(header::RETRY_AFTER, retry);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn a_fault_is_renamed_in_its_parameter_and_its_message() {
        let fault = Fault::parameter("messages[2].content", "`messages` must not be empty.");
        let fault = fault.renamed(&[("messages", "input"), ("max_tokens", "max_output_tokens")]);
        assert_eq!(fault.parameter_name(), Some("input[2].content"));
        assert_eq!(fault.message, "`input` must not be empty.");
    }
}
