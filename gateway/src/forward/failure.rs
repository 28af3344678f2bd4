//! Failures: why an attempt gave no answer, and what that means for the next one. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use protocol::routing::FailureClass;

use super::recognise::recognise;
use crate::{fault::Fault, provider::Unsendable};

/// Why an attempt gave no answer that the client can have.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, or it broke before the answer was complete.
    Broken(String),
    /// No answer in time.
    Timeout(&'static str, Duration),
    /// An answer over the limit.
    TooLong,
    /// An error of the upstream's.
    Status(Box<UpstreamError>),
    /// The replica has not the adapter that the request needs, or could not load it.
    Adapter(String),
    /// The upstream was not asked, since it does not speak of this.
    Unsendable(Unsendable),
    /// The client's form broke off, or went on as it must not.
    Client(Fault),
}

/// An upstream's own words.
#[derive(Debug)]
pub(crate) struct UpstreamError {
    /// The status, 400 or above.
    pub(crate) status: StatusCode,
    /// The content type.
    pub(crate) content_type: HeaderValue,
    /// When the upstream wants to be asked again.
    pub(crate) retry_after: Option<HeaderValue>,
    /// The same as a time from now.
    pub(crate) retry_in: Option<Duration>,
    /// The body, up to a limit.
    pub(crate) body: Bytes,
}

impl UpstreamError {
    /// Whether the gateway's own credential was refused.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(self.status.as_u16(), 401 | 403)
    }

    fn class(&self) -> Option<FailureClass> {
        let status = self.status.as_u16();
        if (400..500).contains(&status)
            && status != 429
            && let Some(class) = recognise(&self.body)
        {
            return Some(class);
        }
        match status {
            429 => Some(FailureClass::RateLimit),
            408 | 504 => Some(FailureClass::Timeout),
            // 529 is how Anthropic says that it is overloaded.
            401 | 403 | 500 | 502 | 503 | 529 => Some(FailureClass::Error),
            _ => None,
        }
    }
}

impl Failure {
    /// Its class; `None` for what nobody else would answer better either.
    pub(super) fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Broken(_) | Self::Adapter(_) | Self::Unsendable(Unsendable::Unspoken) => {
                Some(FailureClass::Error)
            }
            Self::Timeout(..) => Some(FailureClass::Timeout),
            Self::TooLong | Self::Client(_) | Self::Unsendable(Unsendable::Untranslatable(_)) => {
                None
            }
            Self::Status(error) => error.class(),
        }
    }

    /// Whether other replicas of the same target would fail alike: they are the same model with the same credential.
    pub(super) fn is_of_target(&self) -> bool {
        match self {
            Self::Status(error) => {
                let class = error.class();
                error.is_unauthorized()
                    || matches!(
                        class,
                        Some(FailureClass::ContextWindow | FailureClass::ContentPolicy)
                    )
            }
            Self::Unsendable(_) => true,
            Self::Broken(_)
            | Self::Timeout(..)
            | Self::TooLong
            | Self::Adapter(_)
            | Self::Client(_) => false,
        }
    }

    /// Whether the same replica may do better a little later.
    pub(super) fn may_pass(&self) -> bool {
        // Who was too slow is made slower by asking again.
        !matches!(self, Self::Timeout(..)) && !self.is_of_target()
    }

    /// Whether the endpoint was not asked, or not to the end: that says nothing of it.
    pub(super) const fn is_unasked(&self) -> bool {
        matches!(
            self,
            Self::Unsendable(_) | Self::Client(_) | Self::Adapter(_)
        )
    }

    /// Whether it speaks against the endpoint's health: being busy does not.
    pub(super) fn is_harmful(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Timeout(..) => true,
            Self::TooLong | Self::Adapter(_) | Self::Unsendable(_) | Self::Client(_) => false,
            Self::Status(error) => error.status.is_server_error(),
        }
    }

    /// What happened, for the log.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Broken(reason) | Self::Adapter(reason) => reason.clone(),
            Self::Timeout(what, limit) => format!("no {what} within {limit:?}"),
            Self::TooLong => "the answer is over the limit".to_owned(),
            Self::Status(error) => format!("status {}", error.status),
            Self::Unsendable(Unsendable::Unspoken) => "the target has no such API".to_owned(),
            Self::Client(fault) | Self::Unsendable(Unsendable::Untranslatable(fault)) => {
                fault.message.clone()
            }
        }
    }
}
