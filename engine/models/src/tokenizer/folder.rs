//! The tokenizer of a folder: `tokenizer.json` and the small files beside it.

use std::path::Path;

use engine_core::TokenId;
use serde_json::Value;

use crate::files;

use super::vocabulary::Vocabulary;
use super::{Frame, Tokenizer, UnsupportedTokenizer, json, stops_of};

/// Bytes of a `tokenizer.json`; the largest known one has 33 million.
const TOKENIZER_BYTES_MAX: u64 = 1 << 28;
const SMALL_BYTES_MAX: u64 = 1 << 22;

impl Tokenizer {
    /// Reads the tokenizer and the chat template of a folder.
    pub(crate) fn open_folder(
        folder: &Path,
        model_vocabulary: usize,
    ) -> Result<(Self, Option<String>), UnsupportedTokenizer> {
        let inconsistent = |what: &str| UnsupportedTokenizer::Inconsistent(what.to_owned());
        let text = files::read(&folder.join("tokenizer.json"), TOKENIZER_BYTES_MAX)?;
        let text =
            String::from_utf8(text).map_err(|_| inconsistent("tokenizer.json is not UTF-8"))?;
        let json::Parsed {
            vocabulary,
            special,
            pipeline,
            mut frame,
        } = json::parse(&text)?;
        let beside = |name: &str| {
            files::read_optional_json(&folder.join(name), SMALL_BYTES_MAX)
                .map(Option::unwrap_or_default)
        };
        let config = beside("tokenizer_config.json")?;
        let named = |name: &str| named_token(&config[name], &vocabulary);
        let (begin, end) = (named("bos_token"), named("eos_token"));
        if frame == Frame::default() && config["add_bos_token"] == true {
            frame.before.extend(begin);
        }
        let mut stops: Vec<_> = end.into_iter().collect();
        for file in ["generation_config.json", "config.json"] {
            stops.extend(end_tokens(&beside(file)?["eos_token_id"], &vocabulary));
        }
        let template = match chat_template(&config["chat_template"]) {
            Some(template) => Some(template.to_owned()),
            None => template_file(folder)?,
        };
        let tokenizer = Self {
            model_vocabulary,
            special,
            pipeline,
            frame,
            begin,
            end,
            stops: stops_of(&vocabulary, stops.into_iter()),
            vocabulary,
        };
        Ok((tokenizer, template))
    }
}

/// A token that is written as its text, or as an object around it.
fn named_token(value: &Value, vocabulary: &Vocabulary) -> Option<TokenId> {
    let text = value.as_str().or_else(|| value["content"].as_str())?;
    vocabulary.find(text)
}

/// One number, or several.
fn end_tokens(value: &Value, vocabulary: &Vocabulary) -> Vec<TokenId> {
    let several = value.as_array().into_iter().flatten();
    let numbers = several.chain([value]).filter_map(Value::as_u64);
    let known = numbers.filter(|id| *id < vocabulary.len() as u64);
    known.map(|id| id as TokenId).collect()
}

/// One template, or the one named `default` of several.
fn chat_template(value: &Value) -> Option<&str> {
    let several = value.as_array().into_iter().flatten();
    let default = several
        .into_iter()
        .find(|template| template["name"] == "default");
    value.as_str().or_else(|| default?["template"].as_str())
}

fn template_file(folder: &Path) -> Result<Option<String>, UnsupportedTokenizer> {
    let path = folder.join("chat_template.jinja");
    if !path.exists() {
        return Ok(None);
    }
    let text = String::from_utf8(files::read(&path, SMALL_BYTES_MAX)?);
    text.map(Some).map_err(|_| {
        UnsupportedTokenizer::Inconsistent("chat_template.jinja is not UTF-8".to_owned())
    })
}
