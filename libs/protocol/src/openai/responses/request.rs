//! What a client asks of `/v1/responses`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A request for a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponsesRequest {
    /// The model's name.
    pub model: String,
    /// A text, or the items of a conversation.
    pub input: ResponseInput,
    /// What the model is told before the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Most tokens to generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus mass, above 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Alternatives to report per token, 0 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u32>,
    /// Whether to stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// What the text looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<ResponseText>,
    /// Functions that the model may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<ResponseFunctionTool>>,
    /// Which of them it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ResponseToolChoice>,
    /// Whether it may call several at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// How it thinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Reasoning>,
    /// What else the answer carries, as `message.output_text.logprobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// The client's notes; they come back as they went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `input`: a text or items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResponseInput {
    /// What the user says.
    Text(String),
    /// A conversation.
    Items(Vec<InputItem>),
}

/// One item of a conversation. Messages may come without a type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputItem {
    /// What it is; a message if it is not said.
    #[serde(rename = "type", default)]
    pub kind: InputItemKind,
    /// Who speaks, in a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The text or the parts, in a message or in reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ResponseContent>,
    /// The call's id, in a call and in its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The function's name, in a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The arguments as JSON text, in a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// What the function gave, in the output of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ResponseContent>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What an item of a conversation is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputItemKind {
    /// Something said.
    #[default]
    Message,
    /// A call that the model made.
    FunctionCall,
    /// What a call gave.
    FunctionCallOutput,
    /// What the model thought.
    Reasoning,
    /// Something that we do not know.
    #[serde(untagged)]
    Other(String),
}

/// A text or its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResponseContent {
    /// Plain text.
    Text(String),
    /// Typed parts: `input_text`, `output_text`, …
    Parts(Vec<super::super::ContentPart>),
}

/// `text`: what the text of the answer looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ResponseText {
    /// Its format; free text by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ResponseFormat>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The format of the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Free text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// The schema.
        schema: Value,
        /// Whether the schema is followed to the letter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
        /// What it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
}

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseFunctionTool {
    /// `function`; nothing else is served.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function's name.
    #[serde(default)]
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema of its arguments.
    #[serde(default)]
    pub parameters: Option<Value>,
    /// Whether the schema is followed to the letter.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// `tool_choice`: a word or a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResponseToolChoice {
    /// `auto`, `none` or `required`.
    Word(String),
    /// One function.
    Function {
        /// Always `function`.
        #[serde(rename = "type")]
        kind: String,
        /// The function's name.
        name: String,
    },
}

/// `reasoning`: how the model thinks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// How much, as `low`.
    #[serde(default)]
    pub effort: Option<String>,
    /// Whether thoughts are summarised; they never are.
    #[serde(default)]
    pub summary: Option<String>,
}
