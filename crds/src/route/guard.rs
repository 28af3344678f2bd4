//! A Route's guards: what looks at requests and answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LimitMode;
use crate::{
    reference::SecretKeyRef,
    schema::{DNS_LABEL, DURATION},
};

/// What looks at requests and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.regex) == (self.type == 'Regex')", "message": "regex goes with type Regex", "fieldPath": ".regex"},
    {"rule": "!has(self.pii) || self.type == 'PII'", "message": "pii goes with type PII", "fieldPath": ".pii"},
    {"rule": "!has(self.promptInjection) || self.type == 'PromptInjection'", "message": "promptInjection goes with type PromptInjection", "fieldPath": ".promptInjection"},
    {"rule": "has(self.tools) == (self.type == 'Tools')", "message": "tools goes with type Tools", "fieldPath": ".tools"},
    {"rule": "has(self.webhook) == (self.type == 'Webhook')", "message": "webhook goes with type Webhook", "fieldPath": ".webhook"},
    {"rule": "!has(self.action) || self.type != 'Webhook'", "message": "the service of a Webhook says itself what happens; remove action", "fieldPath": ".action"},
    {"rule": "!(self.type in ['PromptInjection', 'Tools']) || !has(self.action) || self.action == 'Block'", "message": "there is nothing to mask in what this type finds", "fieldPath": ".action"},
    {"rule": "self.type != 'PromptInjection' || !has(self.on) || self.on == 'Requests'", "message": "PromptInjection looks at requests", "fieldPath": ".on"}
]))]
pub struct Guard {
    /// The guard's name in this route.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = DNS_LABEL)
    )]
    pub name: String,
    /// What it looks for.
    pub r#type: GuardType,
    /// What it looks at; Both if not given, and Requests for PromptInjection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<GuardPhases>,
    /// Whether what it finds is refused or replaced; Block if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<GuardAction>,
    /// Whether it acts, or only tells in logs and metrics; Enforce if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LimitMode>,
    /// What Regex looks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<RegexGuard>,
    /// What PII looks for; everything it knows if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pii: Option<PiiGuard>,
    /// How PromptInjection decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_injection: Option<PromptInjectionGuard>,
    /// What Tools allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolsGuard>,
    /// Whom Webhook asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookGuard>,
}

/// What a guard looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GuardType {
    /// Texts that match an expression.
    Regex,
    /// What tells who somebody is: mail, phones, accounts, cards, addresses.
    #[serde(rename = "PII")]
    Pii,
    /// Keys, tokens and passwords.
    Secrets,
    /// Texts that tell a model to forget what it was told.
    PromptInjection,
    /// Tools that models are offered and call.
    Tools,
    /// What a service of yours says.
    Webhook,
}

/// What a guard looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GuardPhases {
    /// Requests and answers.
    Both,
    /// Requests.
    Requests,
    /// Answers.
    Answers,
}

/// What happens to what a guard finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GuardAction {
    /// The request is refused, or the answer withheld.
    Block,
    /// It is replaced by a word that tells its kind; of PII in requests, it comes back in the answer.
    Mask,
}

/// Expressions to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegexGuard {
    /// The expressions, in the syntax of RE2: without references back and looks around.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024)))]
    pub patterns: Vec<String>,
}

/// Kinds to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PiiGuard {
    /// The kinds.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub kinds: Vec<PiiKind>,
}

/// A kind of what tells who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PiiKind {
    /// Addresses of mail.
    Email,
    /// Phone numbers.
    Phone,
    /// Bank accounts.
    #[serde(rename = "IBAN")]
    Iban,
    /// Credit cards.
    CreditCard,
    /// Addresses of the internet protocol.
    #[serde(rename = "IPAddress")]
    IpAddress,
    /// Social security numbers of the US.
    #[serde(rename = "USSSN")]
    UsSsn,
}

/// How prompt injections are told from other texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromptInjectionGuard {
    /// The score from which on a text is one; 60 if promptInjection is not given.
    #[schemars(range(min = 1, max = 100))]
    pub threshold: i32,
}

/// Tools that are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolsGuard {
    /// The only ones, by name or with a trailing *; all if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<String>,
    /// None of these, by name or with a trailing *.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub deny: Vec<String>,
}

/// A service that judges texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookGuard {
    /// Where it is asked, by POST.
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^https?://[^/?#@]+(/.*)?$')",
        "message": "must be an http or https URL without password, as https://guard.example/judge"
    }]))]
    pub url: String,
    /// How long it may take, up to 30s; 2s if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// Whether texts pass when it gives no judgement: Fail, the default, refuses them, Ignore lets them pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<WebhookFailure>,
    /// The key of a Secret of this namespace that questions are signed with; they are not if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// What happens to texts that a service gave no judgement of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WebhookFailure {
    /// They are refused.
    Fail,
    /// They pass.
    Ignore,
}
