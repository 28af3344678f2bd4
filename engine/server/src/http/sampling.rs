//! The parameters that chats and completions share: how answers are made and where they end.

use engine_core::{SamplingParameters, TokenId};
use protocol::openai::Stop;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::runner::Visible;

use super::fault::Fault;
use super::format::FormatBody;

/// Most answers to one prompt.
pub(super) const ANSWERS_MAX: u32 = 32;
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1024;
const STOP_TOKENS_MAX: usize = 64;
const LOGIT_BIASES_MAX: usize = 1024;
/// Alternatives to report per token.
pub(super) const LOGPROBS_MAX: u32 = 20;
const SALT_BYTES_MAX: usize = 256;
/// The API's default, for chats and completions.
const TEMPERATURE_DEFAULT: f32 = 1.0;

/// What the body of a chat and of a completion have in common. Sources: OpenAI's API reference, and vLLM's extensions.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct SamplingBody {
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<i64>,
    pub(super) min_p: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) repetition_penalty: Option<f32>,
    pub(super) logit_bias: Option<Map<String, Value>>,
    pub(super) seed: Option<i64>,
    pub(super) n: Option<u32>,
    pub(super) stop: Option<Stop>,
    pub(super) stop_token_ids: Option<Vec<TokenId>>,
    pub(super) include_stop_str_in_output: Option<bool>,
    pub(super) ignore_eos: Option<bool>,
    pub(super) min_tokens: Option<u32>,
    pub(super) skip_special_tokens: Option<bool>,
    pub(super) prompt_logprobs: Option<i64>,
    pub(super) priority: Option<i32>,
    pub(super) cache_salt: Option<String>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamBody>,
    #[serde(flatten)]
    pub(super) format: FormatBody,
}

/// `stream_options`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct StreamBody {
    #[serde(default)]
    pub(super) include_usage: Option<bool>,
    #[serde(default)]
    pub(super) continuous_usage_stats: Option<bool>,
}

/// Which usage a stream carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StreamUsage {
    /// In an event of its own at the end.
    pub(super) at_end: bool,
    /// In each event.
    pub(super) in_each: bool,
}

/// How answers are made and where they end.
#[derive(Debug, Clone)]
pub(super) struct Making {
    pub(super) sampling: SamplingParameters,
    pub(super) stops: Vec<String>,
    pub(super) includes_stop: bool,
    pub(super) stop_tokens: Vec<TokenId>,
    /// Whether the model's own end of an answer does not count.
    pub(super) ignores_end: bool,
    pub(super) visible: Visible,
    pub(super) tokens_min: usize,
    /// Most tokens, or all that fit.
    pub(super) tokens_max: Option<usize>,
    pub(super) prompt_logprobs: Option<usize>,
    pub(super) priority: i32,
    pub(super) salt: Option<String>,
    /// Answers to each prompt.
    pub(super) answers: u32,
}

impl SamplingBody {
    /// Checks all parameters. `tokens_max` and `logprobs` have other names and defaults in each API.
    pub(super) fn read(
        &self,
        tokens_max: Option<usize>,
        logprobs: Option<u32>,
    ) -> Result<Making, Fault> {
        let answers = self.n.unwrap_or(1);
        check_range("n", answers, 1, ANSWERS_MAX)?;
        let tokens_min = self.min_tokens.unwrap_or(0) as usize;
        if tokens_max.is_some_and(|most| most < tokens_min) {
            return Err(Fault::parameter(
                "min_tokens",
                "`min_tokens` is more than the answer may have.",
            ));
        }
        let has_salt_fault = |salt: &String| salt.is_empty() || SALT_BYTES_MAX < salt.len();
        if self.cache_salt.as_ref().is_some_and(has_salt_fault) {
            return Err(Fault::parameter(
                "cache_salt",
                format!("`cache_salt` is a text of 1 to {SALT_BYTES_MAX} bytes."),
            ));
        }
        Ok(Making {
            sampling: self.sampling(logprobs)?,
            stops: self.stops()?,
            includes_stop: self.include_stop_str_in_output.unwrap_or(false),
            stop_tokens: self.stop_tokens()?,
            ignores_end: self.ignore_eos.unwrap_or(false),
            visible: match self.skip_special_tokens {
                Some(false) => Visible::All,
                Some(true) | None => Visible::default(),
            },
            tokens_min,
            tokens_max,
            prompt_logprobs: self.prompt_logprobs()?,
            priority: self.priority.unwrap_or(0),
            salt: self.cache_salt.clone(),
            answers,
        })
    }

    fn sampling(&self, logprobs: Option<u32>) -> Result<SamplingParameters, Fault> {
        let sampling = SamplingParameters {
            temperature: self.temperature.unwrap_or(TEMPERATURE_DEFAULT),
            top_p: self.top_p.unwrap_or(1.0),
            top_k: self.top_k()?,
            min_p: self.min_p.unwrap_or(0.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            logit_bias: self.logit_bias()?,
            seed: self.seed.map_or_else(random_seed, i64::cast_unsigned),
            logprobs: logprobs.map(|count| count as usize),
        };
        sampling.validate()?;
        Ok(sampling)
    }

    fn top_k(&self) -> Result<Option<usize>, Fault> {
        match self.top_k {
            None | Some(0 | -1) => Ok(None),
            Some(count) => usize::try_from(count)
                .map(Some)
                .map_err(|_| Fault::parameter("top_k", "`top_k` is -1, 0, or a positive number.")),
        }
    }

    fn logit_bias(&self) -> Result<Vec<(TokenId, f32)>, Fault> {
        let Some(map) = &self.logit_bias else {
            return Ok(Vec::new());
        };
        let entry =
            |(token, bias): (&String, &Value)| Some((token.parse().ok()?, bias.as_f64()? as f32));
        let biases = map.iter().map(entry).collect::<Option<Vec<_>>>();
        biases
            .filter(|biases| biases.len() <= LOGIT_BIASES_MAX)
            .ok_or_else(|| {
                Fault::parameter(
                    "logit_bias",
                    format!(
                        "`logit_bias` maps at most {LOGIT_BIASES_MAX} token ids to numbers from -100 to 100."
                    ),
                )
            })
    }

    fn stops(&self) -> Result<Vec<String>, Fault> {
        let stops = self.stop.as_ref().map(Stop::strings).unwrap_or_default();
        if STOPS_MAX < stops.len() {
            return Err(Fault::parameter(
                "stop",
                format!("`stop` has at most {STOPS_MAX} strings."),
            ));
        }
        if stops
            .iter()
            .any(|stop| stop.is_empty() || STOP_BYTES_MAX < stop.len())
        {
            return Err(Fault::parameter(
                "stop",
                format!("A stop string has 1 to {STOP_BYTES_MAX} bytes."),
            ));
        }
        Ok(stops.to_vec())
    }

    fn stop_tokens(&self) -> Result<Vec<TokenId>, Fault> {
        let tokens = self.stop_token_ids.clone().unwrap_or_default();
        if STOP_TOKENS_MAX < tokens.len() {
            return Err(Fault::parameter(
                "stop_token_ids",
                format!("`stop_token_ids` has at most {STOP_TOKENS_MAX} tokens."),
            ));
        }
        Ok(tokens)
    }

    fn prompt_logprobs(&self) -> Result<Option<usize>, Fault> {
        let Some(count) = self.prompt_logprobs else {
            return Ok(None);
        };
        if self.stream == Some(true) {
            return Err(Fault::parameter(
                "prompt_logprobs",
                "`prompt_logprobs` cannot be streamed.",
            ));
        }
        match u32::try_from(count) {
            Ok(count) if count <= LOGPROBS_MAX => Ok(Some(count as usize)),
            _ => Err(Fault::parameter(
                "prompt_logprobs",
                format!("`prompt_logprobs` is 0 to {LOGPROBS_MAX}."),
            )),
        }
    }

    pub(super) fn is_streamed(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Which usage a stream carries.
    pub(super) fn stream_usage(&self) -> Result<StreamUsage, Fault> {
        let Some(options) = self.stream_options else {
            return Ok(StreamUsage::default());
        };
        if !self.is_streamed() {
            return Err(Fault::parameter(
                "stream_options",
                "`stream_options` needs `stream` to be true.",
            ));
        }
        let at_end = options.include_usage.unwrap_or(false);
        Ok(StreamUsage {
            at_end,
            in_each: at_end && options.continuous_usage_stats.unwrap_or(false),
        })
    }
}

/// A seed for requests without one.
fn random_seed() -> u64 {
    uuid::Uuid::now_v7().as_u128() as u64
}

/// Refuses a number outside its range.
pub(super) fn check_range(name: &str, value: u32, least: u32, most: u32) -> Result<(), Fault> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Fault::parameter(
        name,
        format!("`{name}` is {value} and must be {least} to {most}."),
    ))
}

/// The most tokens of an answer, out of a request's parameter.
pub(super) fn answer_max(name: &str, wanted: Option<u32>) -> Result<Option<usize>, Fault> {
    match wanted {
        Some(0) => Err(Fault::parameter(
            name,
            format!("`{name}` must be at least 1."),
        )),
        wanted => Ok(wanted.map(|count| count as usize)),
    }
}
