//! Log probabilities in the shapes of the APIs.

use engine_core::{PromptLogprob, Sampled, TokenId};
use engine_models::Tokenizer;
use protocol::openai::{CompletionLogprobs, Logprobs, OutputLogprob, TokenLogprob, TopLogprob};
use serde_json::{Map, Value, json};

/// Of the chat API.
pub(super) fn of_chat(tokenizer: &Tokenizer, sampled: &[Sampled]) -> Logprobs {
    let content = sampled.iter().map(|sampled| {
        let own = alternative(
            tokenizer,
            sampled.token,
            sampled.logprob.unwrap_or_default(),
        );
        TokenLogprob {
            token: own.token,
            logprob: own.logprob,
            bytes: own.bytes,
            top_logprobs: alternatives(tokenizer, &sampled.top),
        }
    });
    Logprobs {
        content: content.collect(),
        refusal: None,
    }
}

/// Of the responses API.
pub(super) fn of_response(tokenizer: &Tokenizer, sampled: &[Sampled]) -> Vec<OutputLogprob> {
    let entry = |sampled: &Sampled| {
        let own = alternative(
            tokenizer,
            sampled.token,
            sampled.logprob.unwrap_or_default(),
        );
        OutputLogprob {
            token: own.token,
            logprob: own.logprob,
            bytes: own.bytes.unwrap_or_default(),
            top_logprobs: alternatives(tokenizer, &sampled.top),
        }
    };
    sampled.iter().map(entry).collect()
}

/// Of the completions API, token by token.
#[derive(Debug, Default)]
pub(super) struct CompletionList {
    list: CompletionLogprobs,
    /// Where the next token starts, in characters.
    offset: u32,
}

impl CompletionList {
    /// Adds a token.
    pub(super) fn push(
        &mut self,
        tokenizer: &Tokenizer,
        token: TokenId,
        logprob: Option<f32>,
        top: &[(TokenId, f32)],
    ) {
        let own = text(tokenizer, token);
        let entries = top
            .iter()
            .map(|(token, logprob)| (text(tokenizer, *token), Value::from(*logprob)));
        let list = &mut self.list;
        list.text_offset.push(self.offset);
        self.offset += u32::try_from(own.chars().count()).unwrap_or(0);
        list.tokens.push(own);
        list.token_logprobs.push(logprob);
        // The first token of a prompt has nothing before it.
        let top: Option<Map<String, Value>> = logprob.is_some().then(|| entries.collect());
        list.top_logprobs.push(top);
    }

    /// Adds a prompt.
    pub(super) fn push_prompt(
        &mut self,
        tokenizer: &Tokenizer,
        prompt: &[TokenId],
        logprobs: &[PromptLogprob],
    ) {
        if let Some(first) = prompt.first() {
            self.push(tokenizer, *first, None, &[]);
        }
        for entry in logprobs {
            self.push(tokenizer, entry.token, Some(entry.logprob), &entry.top);
        }
    }

    /// Adds a token of the answer.
    pub(super) fn push_sampled(&mut self, tokenizer: &Tokenizer, sampled: &Sampled) {
        let logprob = Some(sampled.logprob.unwrap_or_default());
        self.push(tokenizer, sampled.token, logprob, &sampled.top);
    }

    /// What was added since the last time.
    pub(super) fn take(&mut self) -> CompletionLogprobs {
        std::mem::take(&mut self.list)
    }
}

/// vLLM's `prompt_logprobs`: for each token of the prompt but the first, the likeliest tokens and its own.
pub(super) fn of_prompt(tokenizer: &Tokenizer, logprobs: &[PromptLogprob]) -> Value {
    let describe = |token: TokenId, logprob: f32, rank: usize| json!({"logprob": logprob, "rank": rank, "decoded_token": text(tokenizer, token)});
    let entries = logprobs.iter().map(|entry| {
        let mut object = Map::new();
        object.insert(
            entry.token.to_string(),
            describe(entry.token, entry.logprob, entry.rank),
        );
        for (rank, (token, logprob)) in (1..).zip(&entry.top) {
            object.insert(token.to_string(), describe(*token, *logprob, rank));
        }
        Value::Object(object)
    });
    std::iter::once(Value::Null).chain(entries).collect()
}

/// A token's text, control tokens by their names.
pub(super) fn text(tokenizer: &Tokenizer, token: TokenId) -> String {
    String::from_utf8_lossy(&tokenizer.visible_bytes(token)).into_owned()
}

fn alternatives(tokenizer: &Tokenizer, top: &[(TokenId, f32)]) -> Vec<TopLogprob> {
    top.iter()
        .map(|(token, logprob)| alternative(tokenizer, *token, *logprob))
        .collect()
}

fn alternative(tokenizer: &Tokenizer, token: TokenId, logprob: f32) -> TopLogprob {
    let bytes = tokenizer.visible_bytes(token);
    TopLogprob {
        token: String::from_utf8_lossy(&bytes).into_owned(),
        // JSON has no infinity; a token that a mask excludes still has a finite one in the model's distribution.
        logprob: logprob.max(f32::MIN),
        bytes: Some(bytes),
    }
}
