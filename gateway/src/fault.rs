//! A fault on the way of one request, in the words of OpenAI's API.

use protocol::{
    anthropic,
    openai::{ErrorBody, ErrorKind},
};

/// Why a request is not answered as it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The class of fault; decides the status.
    pub(crate) kind: ErrorKind,
    /// A sentence that says what to do.
    pub(crate) message: String,
    /// The parameter at fault.
    pub(crate) param: Option<&'static str>,
    /// Seconds until another try may do better.
    pub(crate) retry_after: Option<u64>,
    /// Methods that the path allows, with [`ErrorKind::MethodNotAllowed`].
    pub(crate) allow: Option<&'static str>,
}

impl Fault {
    /// A fault of this kind.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            allow: None,
        }
    }

    /// A fault of one parameter.
    pub(crate) fn of(kind: ErrorKind, param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param),
            ..Self::new(kind, message)
        }
    }

    /// No such model, or none that this caller may know of; the two must look the same.
    pub(crate) fn model_not_found(model: &str) -> Self {
        let shown: String = model.chars().take(200).collect();
        let message =
            format!("The model `{shown}` does not exist or you do not have access to it.");
        Self::of(ErrorKind::ModelNotFound, "model", message)
    }

    /// The error object of Anthropic's API.
    pub(crate) fn anthropic_body(&self) -> anthropic::ErrorBody {
        anthropic::ErrorBody::new(self.kind, &self.message)
    }

    /// The error object of Ollama's API.
    pub(crate) fn ollama_body(&self) -> serde_json::Value {
        serde_json::json!({"error": self.message})
    }

    /// The error object.
    pub(crate) fn body(&self) -> ErrorBody {
        match self.param {
            Some(param) => self.kind.body_for(&self.message, param),
            None => self.kind.body(&self.message),
        }
    }
}
