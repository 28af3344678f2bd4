//! What a route gives besides models: tool servers (MCP) and agents (A2A), and how the gateway shows itself to them.

use serde::{Deserialize, Serialize};

use super::ToolPrices;
use crate::secret::SecretString;

/// The tool servers of a route, which speak the Model Context Protocol over streamable HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mcp {
    /// The servers.
    pub servers: Vec<McpServer>,
    /// Web pages that browsers may call from, as `https://app.example.com`; requests of others are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// Issuers of tokens that clients are sent to when they come without a key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_servers: Vec<String>,
    /// Whether clients see two tools that find and call tools in the place of all tools.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tool_search: bool,
}

/// A tool server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct McpServer {
    /// Its name in the route; what its tools' names begin with.
    pub name: String,
    /// The URL of its endpoint.
    pub url: String,
    /// How the gateway shows itself.
    #[serde(default)]
    pub auth: UpstreamAuth,
    /// Who may use which tools: the first rule that fits the caller decides. Without rules everybody may use all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolRule>,
    /// What calls of its tools cost; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<ToolPrices>,
    /// Longest silence of the server while something is asked of it, in milliseconds.
    pub timeout_millis: u64,
}

/// Which tools some callers may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolRule {
    /// The keys that the rule is for, by [`super::KeyEntry::id`]; everybody if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
    /// Names of tools: exact, or with one leading or trailing `*`; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Names of tools that may not be used, whatever `allow` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// How the gateway shows itself to a tool server or an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamAuth {
    /// Not at all.
    #[default]
    None,
    /// By a header.
    Header(HeaderCredential),
    /// By a token that it fetches with its own id and secret (OAuth 2.0 client credentials).
    ClientCredentials(ClientCredentials),
}

/// A header with a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderCredential {
    /// The header's name.
    pub name: String,
    /// The whole value.
    pub value: SecretString,
}

/// What tokens are fetched with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCredentials {
    /// The URL of the token endpoint.
    pub token_url: String,
    /// The gateway's id there.
    pub client_id: String,
    /// The gateway's secret there.
    pub client_secret: SecretString,
    /// The scopes that are asked for, separated by spaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
}

/// The agents of a route, which speak the Agent2Agent protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct A2a {
    /// The agents.
    pub agents: Vec<A2aAgent>,
}

/// An agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct A2aAgent {
    /// Its name in the route, which is part of its path in the gateway.
    pub name: String,
    /// The URL below which its card lies at `/.well-known/agent-card.json`.
    pub url: String,
    /// How the gateway shows itself.
    #[serde(default)]
    pub auth: UpstreamAuth,
    /// Longest silence of the agent while something is asked of it, in milliseconds.
    pub timeout_millis: u64,
}
