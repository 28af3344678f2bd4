//! What a request asks for, in words that belong to no API.

use super::json::{Extra, Json, Numeral};

/// A request for an answer of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Conversation {
    /// What was said so far.
    pub(super) messages: Vec<Message>,
    /// Tools that the model may call.
    pub(super) tools: Vec<Tool>,
    /// Which of them it calls.
    pub(super) tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once; `None` leaves that to the upstream.
    pub(super) parallel_calls: Option<bool>,
    /// How tokens are chosen and when the answer ends.
    pub(super) sampling: Sampling,
    /// What the text of the answer looks like; `None` is free text.
    pub(super) format: Option<Format>,
    /// How much the model thinks first.
    pub(super) reasoning: Option<Reasoning>,
    /// How many words the answer has, as `low`.
    pub(super) verbosity: Option<String>,
    /// Who the client asks for.
    pub(super) user: Option<String>,
    /// How fast and dear the answer may be.
    pub(super) service_tier: Option<String>,
    /// A mark for the whole prompt, in Anthropic's words.
    pub(super) cache: Option<Json>,
    /// Log probabilities of the answer's tokens, if asked for.
    pub(super) logprobs: Option<Logprobs>,
    /// Fields that we do not understand.
    pub(super) extra: Extra,
}

/// Something said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    /// By whom.
    pub(super) role: Role,
    /// What.
    pub(super) parts: Vec<Part>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Whoever set the conversation up.
    System,
    /// The user, and the tools on behalf of the user.
    User,
    /// The model.
    Assistant,
}

/// A part of what is said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Where it is in the client's request, as `messages[2].content[0]`.
    pub(super) at: String,
    /// What it is.
    pub(super) kind: PartKind,
    /// The prompt up to here is worth caching, in Anthropic's words.
    pub(super) cache: Option<Json>,
}

impl Part {
    /// A part without a mark.
    pub(super) fn new(at: impl Into<String>, kind: PartKind) -> Self {
        Self {
            at: at.into(),
            kind,
            cache: None,
        }
    }
}

/// What a part is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PartKind {
    /// Text.
    Text(String),
    /// A picture.
    Image {
        /// Where it is.
        source: Source,
        /// How closely to look, as `low`, in OpenAI's words.
        detail: Option<String>,
    },
    /// A document.
    Document(Document),
    /// Sound.
    Audio {
        /// The format, as `wav`.
        format: String,
        /// The bytes in base64.
        data: String,
    },
    /// A call of a tool, by the model.
    Call(Call),
    /// What a call gave.
    CallResult(CallResult),
    /// Thoughts of the model.
    Thinking(Thinking),
    /// Thoughts that only the model's maker can read.
    Redacted(String),
    /// Why the model did not do what it was asked.
    Refusal(String),
}

/// Where a picture or a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// In the request.
    Base64 {
        /// As `image/png`.
        media_type: String,
        /// The bytes in base64.
        data: String,
    },
    /// On the web.
    Url(String),
    /// In a store of the upstream.
    File(String),
}

impl Source {
    /// The source that a URL stands for; `data:` URLs hold the bytes.
    pub(super) fn of_url(url: String) -> Self {
        match data_url(&url) {
            Some((media_type, data)) => Self::Base64 {
                media_type: media_type.to_owned(),
                data: data.to_owned(),
            },
            None => Self::Url(url),
        }
    }

    /// The source that the bytes of a file stand for: a `data:` URL, or base64 of a PDF.
    pub(super) fn of_file(data: String) -> Self {
        match Self::of_url(data) {
            Self::Url(url) if !url.starts_with("http") => Self::Base64 {
                media_type: PDF.to_owned(),
                data: url,
            },
            source => source,
        }
    }

    /// The URL; bytes become a `data:` URL. `None` for files in a store.
    pub(super) fn url(&self) -> Option<String> {
        match self {
            Self::Base64 { media_type, data } => Some(format!("data:{media_type};base64,{data}")),
            Self::Url(url) => Some(url.clone()),
            Self::File(_) => None,
        }
    }
}

/// The media type and the base64 of a `data:` URL.
fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let head = head.strip_suffix(";base64")?;
    let media_type = head.split(';').next().unwrap_or(head);
    Some((media_type, data))
}

/// The media type of most documents.
pub(super) const PDF: &str = "application/pdf";

/// A document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    /// What it holds.
    pub(super) content: DocumentContent,
    /// Its name.
    pub(super) title: Option<String>,
    /// What the client says about it.
    pub(super) context: Option<String>,
}

/// What a document holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DocumentContent {
    /// Bytes, or where they are.
    Source(Source),
    /// Plain text.
    Text(String),
}

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// What its result refers to.
    pub(super) id: String,
    /// The tool's name.
    pub(super) name: String,
    /// The arguments as JSON text; models may write invalid JSON.
    pub(super) arguments: String,
    /// Gemini's proof of the thoughts that led to the call.
    pub(super) signature: Option<String>,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CallResult {
    /// The call.
    pub(super) id: String,
    /// Text, pictures and documents.
    pub(super) content: Vec<Part>,
    /// Whether it failed.
    pub(super) is_error: bool,
}

/// Thoughts of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Thinking {
    /// The thoughts.
    pub(super) text: String,
    /// The maker's proof of where they come from.
    pub(super) signature: Option<String>,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    /// Where it is in the client's request.
    pub(super) at: String,
    /// Its name.
    pub(super) name: String,
    /// What it does.
    pub(super) description: Option<String>,
    /// The JSON schema of its arguments.
    pub(super) parameters: Option<Json>,
    /// Whether the schema is followed to the letter.
    pub(super) is_strict: Option<bool>,
    /// The prompt up to here is worth caching, in Anthropic's words.
    pub(super) cache: Option<Json>,
}

/// Which tools the model calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// How tokens are chosen and when the answer ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sampling {
    /// Sampling temperature.
    pub(super) temperature: Option<Numeral>,
    /// Nucleus mass.
    pub(super) top_p: Option<Numeral>,
    /// Candidates kept before sampling.
    pub(super) top_k: Option<Numeral>,
    /// Least likelihood of candidates, relative to the likeliest.
    pub(super) min_p: Option<Numeral>,
    /// Penalty for tokens that came already.
    pub(super) presence_penalty: Option<Numeral>,
    /// Penalty for tokens by how often they came.
    pub(super) frequency_penalty: Option<Numeral>,
    /// Factor on tokens that came already.
    pub(super) repetition_penalty: Option<Numeral>,
    /// Seed.
    pub(super) seed: Option<Numeral>,
    /// Texts that end the answer.
    pub(super) stop: Vec<String>,
    /// Most tokens of the answer, thoughts included.
    pub(super) max_tokens: Option<u64>,
}

/// What the text of an answer looks like.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Json,
        /// Whether it is followed to the letter.
        is_strict: Option<bool>,
    },
}

/// How much a model thinks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reasoning {
    /// Not at all.
    Off,
    /// As much as it finds right.
    Adaptive,
    /// This much.
    Effort(Effort),
    /// At most this many tokens.
    Budget(u64),
}

/// How much a model thinks, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// Very much.
    XHigh,
    /// As much as it can.
    Max,
}

impl Effort {
    /// All of them.
    const ALL: [Self; 6] = [
        Self::Minimal,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::XHigh,
        Self::Max,
    ];

    /// The word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort of a word.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.word() == word)
    }

    /// What a client that names an effort wants; `none` is no thinking.
    pub(super) fn reasoning(word: &str) -> Option<Reasoning> {
        match word {
            "none" => Some(Reasoning::Off),
            word => Self::of_word(word).map(Reasoning::Effort),
        }
    }

    /// Tokens of thoughts that stand for the effort with models that know budgets only.
    pub(super) const fn budget(self) -> u64 {
        match self {
            Self::Minimal | Self::Low => 1024,
            Self::Medium => 4096,
            Self::High => 16_384,
            Self::XHigh | Self::Max => 32_768,
        }
    }

    /// The effort that a budget of tokens stands for.
    pub(super) fn of_budget(tokens: u64) -> Self {
        [Self::Low, Self::Medium, Self::High]
            .into_iter()
            .find(|effort| tokens <= effort.budget())
            .unwrap_or(Self::XHigh)
    }
}

/// Log probabilities that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Logprobs {
    /// Alternatives to report per token.
    pub(super) top: Option<u64>,
}
