//! `GET /v1/models`, as Anthropic's clients read it.

use serde::{Deserialize, Serialize};

/// A page of models; ours has all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// The models.
    pub data: Vec<Model>,
    /// The first model's name; null if there is none.
    pub first_id: Option<String>,
    /// Whether there are more.
    pub has_more: bool,
    /// The last model's name; null if there is none.
    pub last_id: Option<String>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name that requests use.
    pub id: String,
    /// Always `model`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name for people.
    pub display_name: String,
    /// RFC 3339.
    pub created_at: String,
}

impl ModelList {
    /// Lists all models.
    pub fn new(models: impl IntoIterator<Item = Model>) -> Self {
        let data: Vec<Model> = models.into_iter().collect();
        Self {
            first_id: data.first().map(|model| model.id.clone()),
            last_id: data.last().map(|model| model.id.clone()),
            has_more: false,
            data,
        }
    }
}

impl Model {
    /// A model that is called as requests call it.
    pub fn new(id: &str, created_at: String) -> Self {
        Self {
            id: id.to_owned(),
            kind: "model".to_owned(),
            display_name: id.to_owned(),
            created_at,
        }
    }
}
