//! Route: tokens of an identity provider in the place of keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An OpenID Connect issuer whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// Who must have issued a token: its claim iss, as https://login.example.
    #[schemars(length(min = 8, max = 512), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^https?://[^/?#@]+(/[^?#]*)?$')",
        "message": "must be an http or https URL without query or password, as https://login.example"
    }]))]
    pub issuer: String,
    /// Whom a token must be for: its claim aud, or one of a list.
    #[schemars(length(min = 1, max = 256))]
    pub audience: String,
    /// Where the issuer publishes its keys; as its openid-configuration says if not given.
    #[serde(default, rename = "keysURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^https?://[^/?#@]+(/.*)?$')",
        "message": "must be an http or https URL without password, as https://login.example/keys"
    }]))]
    pub keys_url: Option<String>,
    /// The claim with the user; sub if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub user_claim: Option<String>,
    /// The claim with the team, a text or a list of which the first counts; team if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub team_claim: Option<String>,
    /// Only tokens of these teams may use the Route; those of every team and of none if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub teams: Vec<String>,
}
