//! What a Route gives besides models: tool servers (MCP) and agents (A2A).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeySelector, ToolPrices};
use crate::{
    reference::{NameRef, SecretKeyRef},
    schema::{DNS_LABEL, DURATION, SERVER_NAME},
};

/// Tool servers that speak the Model Context Protocol over streamable HTTP; clients find them at the gateway below /mcp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mcp {
    /// The servers, by name.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub servers: Vec<McpServer>,
    /// Web pages that browsers may call from, as https://app.example.com; requests of others are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 8, max = 256), regex(pattern = "^https?://[^/?#@ ]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_origins: Vec<String>,
    /// Issuers of tokens that clients without a key are sent to, as https://login.example.com.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(min = 8, max = 1024), regex(pattern = "^https?://[^?#@ ]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub authorization_servers: Vec<String>,
    /// Whether clients see two tools, search_tools and call_tool, in the place of all tools of these servers, which they then
    /// find by words.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tool_search: bool,
}

/// A tool server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!(has(self.secretRef) && has(self.oauth))",
    "message": "a server is shown either a credential or a token; remove secretRef or oauth",
    "fieldPath": ".secretRef"
}, {
    "rule": "!has(self.header) || has(self.secretRef)",
    "message": "a header needs the credential that it carries; give secretRef too",
    "fieldPath": ".header"
}]))]
pub struct McpServer {
    /// The server's name in this route; the names of its tools begin with it and an underscore.
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = SERVER_NAME)
    )]
    pub name: String,
    /// The URL of its endpoint, as https://tools.example.com/mcp.
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^https?://[^/?#@]+(/[^#]*)?$')",
        "message": "must be an http or https URL without password, as https://tools.example.com/mcp"
    }]))]
    pub url: String,
    /// The Secret with the credential that it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// The header that carries the credential; Authorization, with the word Bearer before it, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub header: Option<String>,
    /// Where the gateway gets a token that it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OauthClient>,
    /// Who may use which of its tools; all that may use the route may use all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolFilter>,
    /// What calls of its tools cost; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<ToolPrices>,
    /// Longest silence of the server while something is asked of it; 60s if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: Option<String>,
}

/// A client of a token endpoint (OAuth 2.0 client credentials).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthClient {
    /// The URL of the token endpoint.
    #[serde(rename = "tokenURL")]
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^https?://[^/?#@]+(/[^#]*)?$')",
        "message": "must be an http or https URL without password, as https://login.example.com/token"
    }]))]
    pub token_url: String,
    /// The Secret with the keys client-id and client-secret.
    pub secret_ref: NameRef,
    /// The scopes that are asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 256), regex(pattern = "^[!#-\\[\\]-~]+$"))
    )]
    pub scopes: Vec<String>,
}

/// Which tools may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolFilter {
    /// Names of tools that may be used, exact or with one leading or trailing *; all if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(length(min = 1, max = 128), regex(pattern = TOOL_PATTERN))
    )]
    pub allow: Vec<String>,
    /// Names of tools that may not be used, whatever allow says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(length(min = 1, max = 128), regex(pattern = TOOL_PATTERN))
    )]
    pub deny: Vec<String>,
    /// Other filters for some keys; the first that picks a key stands in the place of allow and deny above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub per_key: Vec<KeyToolFilter>,
}

/// Which tools some keys may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyToolFilter {
    /// Secrets of this namespace that hold gateway keys.
    pub selector: KeySelector,
    /// Names of tools that may be used; all if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(length(min = 1, max = 128), regex(pattern = TOOL_PATTERN))
    )]
    pub allow: Vec<String>,
    /// Names of tools that may not be used, whatever allow says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(length(min = 1, max = 128), regex(pattern = TOOL_PATTERN))
    )]
    pub deny: Vec<String>,
}

/// Names of tools: exact, or with one leading or trailing star.
pub(super) const TOOL_PATTERN: &str = r"^(\*?[A-Za-z0-9._/-]+|[A-Za-z0-9._/-]+\*|\*)$";

/// Agents that speak the Agent2Agent protocol; clients find them at the gateway below /a2a/NAMESPACE/ROUTE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct A2a {
    /// The agents, by name.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub agents: Vec<A2aAgent>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!(has(self.secretRef) && has(self.oauth))",
    "message": "an agent is shown either a credential or a token; remove secretRef or oauth",
    "fieldPath": ".secretRef"
}, {
    "rule": "!has(self.header) || has(self.secretRef)",
    "message": "a header needs the credential that it carries; give secretRef too",
    "fieldPath": ".header"
}]))]
pub struct A2aAgent {
    /// The agent's name in this route, which is part of its path in the gateway.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = DNS_LABEL)
    )]
    pub name: String,
    /// The URL below which its card lies at /.well-known/agent-card.json, as https://agents.example.com/travel.
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^https?://[^/?#@]+(/[^?#]*)?$')",
        "message": "must be an http or https URL without query or password, as https://agents.example.com/travel"
    }]))]
    pub url: String,
    /// The Secret with the credential that it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// The header that carries the credential; Authorization, with the word Bearer before it, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub header: Option<String>,
    /// Where the gateway gets a token that it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OauthClient>,
    /// Longest silence of the agent while something is asked of it; 60s if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: Option<String>,
}
