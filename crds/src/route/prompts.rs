//! A Route's prompts: messages that are put in front of requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{reference::ConfigMapKeyRef, schema::DNS_LABEL};

/// Messages that are put in front of chats, messages and responses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.default) || self.templates.exists(template, template.name == self.default)",
    "message": "the default prompt is none of the templates",
    "fieldPath": ".default"
}]))]
pub struct Prompts {
    /// The template for requests that name none with prompt_id; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub default: Option<String>,
    /// The templates, by the name that requests give as prompt_id.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub templates: Vec<PromptTemplate>,
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromptTemplate {
    /// The template's name in this route.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = DNS_LABEL)
    )]
    pub name: String,
    /// Where it is: the text of a system message, or a JSON list of messages with role and content. {{name}} stands for a variable.
    pub config_map_ref: ConfigMapKeyRef,
}
