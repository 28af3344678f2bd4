//! Tokens of identity providers that a route takes in the place of keys.

use serde::{Deserialize, Serialize};

/// An issuer whose tokens a route takes, and what their claims mean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenIssuer {
    /// Who must have issued a token.
    pub issuer: String,
    /// Whom it must be for.
    pub audience: String,
    /// Where the issuer publishes its keys; as its openid-configuration says if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_url: Option<String>,
    /// The claim with the user.
    #[serde(default = "sub")]
    pub user_claim: String,
    /// The claim with the team.
    #[serde(default = "team")]
    pub team_claim: String,
}

/// Whose tokens a route takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// The issuer. All routes that name one issuer and audience say the same of it.
    #[serde(flatten)]
    pub issuer: TokenIssuer,
    /// The teams whose tokens are taken; all tokens if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<String>,
}

fn sub() -> String {
    "sub".to_owned()
}

fn team() -> String {
    "team".to_owned()
}
