//! Guards: what looks at requests and answers of a route.

use serde::{Deserialize, Serialize};

use super::Mode;
use crate::secret::SecretString;

/// Characters of one pattern, and bytes of what it compiles to.
pub const PATTERN_LENGTH_MAX: usize = 1024;
/// Bytes that one pattern may compile to.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What looks at requests and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// Its name in the route.
    pub name: String,
    /// What it looks at.
    #[serde(default)]
    pub on: Phases,
    /// What happens to what it finds.
    #[serde(default)]
    pub action: Action,
    /// Whether it acts or only tells.
    #[serde(default)]
    pub mode: Mode,
    /// What it looks for.
    pub rule: GuardRule,
}

/// What a guard looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phases {
    /// Requests and answers.
    #[default]
    Both,
    /// Requests only.
    Requests,
    /// Answers only.
    Answers,
}

impl Phases {
    /// Whether it looks at requests.
    pub const fn has_requests(self) -> bool {
        matches!(self, Self::Both | Self::Requests)
    }

    /// Whether it looks at answers.
    pub const fn has_answers(self) -> bool {
        matches!(self, Self::Both | Self::Answers)
    }
}

/// What happens to what a guard finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The request, or the answer, is refused.
    #[default]
    Block,
    /// It is replaced by a word that tells its kind.
    Mask,
}

/// What a guard looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GuardRule {
    /// Texts that match one of these expressions.
    Regex {
        /// The expressions.
        patterns: Vec<String>,
    },
    /// What tells who somebody is.
    Pii {
        /// The kinds that are looked for; all if empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kinds: Vec<PiiKind>,
    },
    /// Keys, tokens and passwords.
    Secrets,
    /// Texts that tell a model to forget what it was told.
    #[serde(rename_all = "camelCase")]
    PromptInjection {
        /// The score, up to 100, from which on a text is one.
        threshold: u8,
    },
    /// Tools that models may be offered and may call.
    Tools {
        /// The only ones, exact or with a trailing `*`; every one if empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allow: Vec<String>,
        /// None of these, exact or with a trailing `*`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deny: Vec<String>,
    },
    /// What a service of the route's owner finds.
    #[serde(rename_all = "camelCase")]
    Webhook {
        /// Where it is asked.
        url: String,
        /// How long it may take, in milliseconds.
        timeout_millis: u64,
        /// What happens when it does not answer.
        #[serde(default)]
        on_failure: OnFailure,
        /// What questions are signed with; they are not if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<SecretString>,
    },
}

/// What happens to texts that nobody has judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// They do not pass.
    #[default]
    Fail,
    /// They pass.
    Ignore,
}

/// A kind of what tells who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PiiKind {
    /// Addresses of mail.
    Email,
    /// Phone numbers.
    Phone,
    /// Bank accounts, with a right checksum.
    Iban,
    /// Credit cards, with a right checksum.
    CreditCard,
    /// Addresses of the internet protocol.
    IpAddress,
    /// Social security numbers of the US.
    UsSsn,
}
