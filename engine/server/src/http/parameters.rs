//! From a request's parameters to how its answer is made.

use engine_core::{SamplingParameters, TokenId};
use protocol::openai::{ChatRequest, CompletionRequest, Stop};
use serde_json::{Map, Value};

use super::fault::Fault;

const STOPS_MAX: usize = 4;
const STOP_BYTES_MAX: usize = 1024;
const STOP_TOKENS_MAX: usize = 64;
const LOGIT_BIASES_MAX: usize = 1024;
const CHAT_LOGPROBS_MAX: u32 = 20;
const COMPLETION_LOGPROBS_MAX: u32 = 5;
/// The API's default, for chats and completions.
const TEMPERATURE_DEFAULT: f32 = 1.0;

/// How an answer is made, apart from its length.
#[derive(Debug, Clone)]
pub(super) struct Parameters {
    pub(super) sampling: SamplingParameters,
    pub(super) stops: Vec<String>,
    pub(super) stop_tokens: Vec<TokenId>,
    /// Whether the model's own end of an answer does not count (vLLM's extension, for benchmarks).
    pub(super) ignores_end: bool,
}

/// The parameters that both APIs have.
struct Common<'a> {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i32>,
    seed: Option<i64>,
    stop: Option<&'a Stop>,
    rest: Rest<'a>,
}

/// Reads a chat's parameters.
pub(super) fn of_chat(request: &ChatRequest) -> Result<Parameters, Fault> {
    let rest = Rest(&request.rest);
    for (name, default) in [("response_format", "text"), ("tool_choice", "auto")] {
        rest.only_default(name, default)?;
    }
    let logprobs = match (request.logprobs.unwrap_or(false), request.top_logprobs) {
        (false, None | Some(0)) => None,
        (false, Some(_)) => {
            return Err(Fault::parameter(
                "top_logprobs",
                "`top_logprobs` needs `logprobs` to be true.",
            ));
        }
        (true, Some(count)) if CHAT_LOGPROBS_MAX < count => {
            return Err(Fault::parameter(
                "top_logprobs",
                format!("`top_logprobs` is at most {CHAT_LOGPROBS_MAX}."),
            ));
        }
        (true, count) => Some(count.unwrap_or(0) as usize),
    };
    let ChatRequest {
        temperature,
        top_p,
        top_k,
        seed,
        ..
    } = *request;
    read(
        &Common {
            temperature,
            top_p,
            top_k,
            seed,
            stop: request.stop.as_ref(),
            rest,
        },
        logprobs,
    )
}

/// Reads a completion's parameters.
pub(super) fn of_completion(request: &CompletionRequest) -> Result<Parameters, Fault> {
    let rest = Rest(&request.rest);
    if rest
        .0
        .get("echo")
        .is_some_and(|echo| echo != &Value::Bool(false) && !echo.is_null())
    {
        return Err(Fault::parameter("echo", "`echo` is not supported."));
    }
    rest.only_default("suffix", "")?;
    let logprobs = match request.logprobs {
        Some(count) if COMPLETION_LOGPROBS_MAX < count => {
            return Err(Fault::parameter(
                "logprobs",
                format!("`logprobs` is at most {COMPLETION_LOGPROBS_MAX}."),
            ));
        }
        count => count.map(|count| count as usize),
    };
    let CompletionRequest {
        temperature,
        top_p,
        top_k,
        seed,
        ..
    } = *request;
    read(
        &Common {
            temperature,
            top_p,
            top_k,
            seed,
            stop: request.stop.as_ref(),
            rest,
        },
        logprobs,
    )
}

fn read(common: &Common<'_>, logprobs: Option<usize>) -> Result<Parameters, Fault> {
    let Common {
        temperature,
        top_p,
        top_k,
        seed,
        stop,
        rest,
    } = common;
    for name in ["n", "best_of"] {
        if rest
            .0
            .get(name)
            .is_some_and(|count| count != &Value::from(1) && !count.is_null())
        {
            return Err(Fault::parameter(
                name,
                format!("`{name}` must be 1: this engine makes one answer."),
            ));
        }
    }
    let top_k = match top_k {
        None | Some(0 | -1) => None,
        Some(count) => match usize::try_from(*count) {
            Ok(count) => Some(count),
            Err(_) => {
                return Err(Fault::parameter(
                    "top_k",
                    "`top_k` is -1, 0, or a positive number.",
                ));
            }
        },
    };
    let sampling = SamplingParameters {
        temperature: temperature.unwrap_or(TEMPERATURE_DEFAULT),
        top_p: top_p.unwrap_or(1.0),
        top_k,
        min_p: rest.number("min_p")?,
        presence_penalty: rest.number("presence_penalty")?,
        frequency_penalty: rest.number("frequency_penalty")?,
        repetition_penalty: 1.0,
        logit_bias: rest.logit_bias()?,
        seed: seed.map_or_else(random_seed, i64::cast_unsigned),
        logprobs,
    };
    sampling.validate()?;
    let stops = stop.map(|stop| stop.strings().to_vec()).unwrap_or_default();
    if STOPS_MAX < stops.len() {
        return Err(Fault::parameter(
            "stop",
            format!("`stop` has at most {STOPS_MAX} strings."),
        ));
    }
    if stops.iter().any(|stop| STOP_BYTES_MAX < stop.len()) {
        return Err(Fault::parameter(
            "stop",
            format!("A stop string has at most {STOP_BYTES_MAX} bytes."),
        ));
    }
    let ignores_end = rest.0.get("ignore_eos") == Some(&Value::Bool(true));
    Ok(Parameters {
        sampling,
        stops,
        stop_tokens: rest.stop_tokens()?,
        ignores_end,
    })
}

/// A seed for requests without one.
fn random_seed() -> u64 {
    uuid::Uuid::now_v7().as_u128() as u64
}

/// The parameters that the wire types leave as they came.
struct Rest<'a>(&'a Map<String, Value>);

impl Rest<'_> {
    /// Refuses what would silently be ignored: anything but null, `default`, `none` or `{"type": default}`.
    fn only_default(&self, name: &str, default: &str) -> Result<(), Fault> {
        let Some(value) = self.0.get(name) else {
            return Ok(());
        };
        let word = value.as_str().or_else(|| value.get("type")?.as_str());
        if value.is_null() || word == Some(default) || word == Some("none") {
            return Ok(());
        }
        Err(Fault::parameter(
            name,
            format!("`{name}` other than `{default}` is not supported by this engine."),
        ))
    }

    fn number(&self, name: &str) -> Result<f32, Fault> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(0.0),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(number as f32),
                None => Err(Fault::parameter(
                    name,
                    format!("`{name}` must be a number."),
                )),
            },
        }
    }

    fn logit_bias(&self) -> Result<Vec<(TokenId, f32)>, Fault> {
        let invalid = || {
            Fault::parameter(
                "logit_bias",
                "`logit_bias` maps token ids to numbers from -100 to 100.",
            )
        };
        let map = match self.0.get("logit_bias") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(map)) if map.len() <= LOGIT_BIASES_MAX => map,
            Some(_) => return Err(invalid()),
        };
        let entry =
            |(token, bias): (&String, &Value)| Some((token.parse().ok()?, bias.as_f64()? as f32));
        map.iter()
            .map(entry)
            .collect::<Option<_>>()
            .ok_or_else(invalid)
    }

    fn stop_tokens(&self) -> Result<Vec<TokenId>, Fault> {
        let invalid = || {
            Fault::parameter(
                "stop_token_ids",
                "`stop_token_ids` is a short list of token ids.",
            )
        };
        let list = match self.0.get("stop_token_ids") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() <= STOP_TOKENS_MAX => list,
            Some(_) => return Err(invalid()),
        };
        let token = |value: &Value| TokenId::try_from(value.as_u64()?).ok();
        list.iter()
            .map(token)
            .collect::<Option<_>>()
            .ok_or_else(invalid)
    }
}
