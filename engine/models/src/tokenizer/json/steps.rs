//! The steps around a `tokenizer.json`'s model: normalizer, pre-tokenizer, post-processor, decoder.

use engine_core::TokenId;
use fancy_regex::Regex;
use serde_json::Value;

use super::super::UnsupportedTokenizer;
use super::super::bert::BertNormalizer;
use super::super::byte_pair::GPT2;
use super::super::cut::{Behavior, Cut, Pattern, Prepend};
use super::super::normalize::Normalizer;
use super::super::vocabulary::Vocabulary;
use super::super::{Frame, Spelling};
use super::inconsistent;

type Result<T> = std::result::Result<T, UnsupportedTokenizer>;

/// Steps inside of steps; real files have two levels.
const DEPTH_MAX: usize = 16;

fn kind(step: &Value) -> &str {
    step["type"].as_str().unwrap_or_default()
}

fn bool_or(step: &Value, name: &str, default: bool) -> bool {
    step[name].as_bool().unwrap_or(default)
}

fn text<'a>(step: &'a Value, name: &str) -> Result<&'a str> {
    step[name]
        .as_str()
        .ok_or_else(|| inconsistent(&format!("{name} of {} is missing", kind(step))))
}

fn unsupported<T>(what: &str, step: &Value) -> Result<T> {
    Err(UnsupportedTokenizer::Step(format!(
        "{what} {:?}",
        kind(step)
    )))
}

/// Calls `each` for a step, or for those that it consists of.
fn flatten<'a>(
    step: &'a Value,
    parts: &str,
    each: &mut impl FnMut(&'a Value) -> Result<()>,
    depth: usize,
) -> Result<()> {
    if step.is_null() {
        return Ok(());
    }
    if kind(step) != "Sequence" {
        return each(step);
    }
    if depth == DEPTH_MAX {
        return Err(inconsistent("steps are nested too deep"));
    }
    step[parts]
        .as_array()
        .into_iter()
        .flatten()
        .try_for_each(|part| flatten(part, parts, each, depth + 1))
}

pub(super) fn normalizers(step: &Value) -> Result<Vec<Normalizer>> {
    let mut out = Vec::new();
    flatten(
        step,
        "normalizers",
        &mut |step| {
            out.extend(normalizer(step)?);
            Ok(())
        },
        0,
    )?;
    Ok(out)
}

fn normalizer(step: &Value) -> Result<Option<Normalizer>> {
    Ok(Some(match kind(step) {
        "NFC" => Normalizer::Nfc,
        "NFD" => Normalizer::Nfd,
        "NFKC" => Normalizer::Nfkc,
        "NFKD" => Normalizer::Nfkd,
        "Lowercase" => Normalizer::Lowercase,
        "StripAccents" => Normalizer::StripAccents,
        "Strip" => Normalizer::Strip {
            left: bool_or(step, "strip_left", true),
            right: bool_or(step, "strip_right", true),
        },
        "Prepend" => Normalizer::Prepend(text(step, "prepend")?.to_owned()),
        "Replace" => {
            let to = text(step, "content")?.to_owned();
            match pattern(&step["pattern"])? {
                Pattern::Text(from) => Normalizer::ReplaceText { from, to },
                Pattern::Regex(pattern) => Normalizer::ReplaceMatches { pattern, to },
                Pattern::Character(_) => return Ok(None),
            }
        }
        "BertNormalizer" => {
            let lowercases = bool_or(step, "lowercase", true);
            Normalizer::Bert(BertNormalizer {
                cleans: bool_or(step, "clean_text", true),
                isolates_ideographs: bool_or(step, "handle_chinese_chars", true),
                strips_accents: bool_or(step, "strip_accents", lowercases),
                lowercases,
            })
        }
        _ => return unsupported("the normalizer", step),
    }))
}

pub(super) fn cuts(step: &Value) -> Result<Vec<Cut>> {
    let mut out = Vec::new();
    flatten(
        step,
        "pretokenizers",
        &mut |step| push_cut(step, &mut out),
        0,
    )?;
    Ok(out)
}

fn push_cut(step: &Value, out: &mut Vec<Cut>) -> Result<()> {
    let removed = |pattern| Cut::Split {
        pattern,
        behavior: Behavior::Removed,
        inverts: false,
    };
    match kind(step) {
        "ByteLevel" => {
            if bool_or(step, "add_prefix_space", true) {
                out.push(Cut::Space);
            }
            if bool_or(step, "use_regex", true) {
                out.push(Cut::isolate(regex(GPT2)?));
            }
            out.push(Cut::Bytes);
        }
        "Split" => out.push(Cut::Split {
            pattern: pattern(&step["pattern"])?,
            behavior: behavior(step)?,
            inverts: bool_or(step, "invert", false),
        }),
        "Digits" => out.push(Cut::Split {
            pattern: Pattern::Character(char::is_numeric),
            behavior: if bool_or(step, "individual_digits", false) {
                Behavior::Isolated
            } else {
                Behavior::Contiguous
            },
            inverts: false,
        }),
        "Punctuation" => out.push(Cut::Split {
            pattern: Pattern::Character(super::super::bert::is_punctuation),
            behavior: behavior(step)?,
            inverts: false,
        }),
        "WhitespaceSplit" => out.push(removed(Pattern::Character(char::is_whitespace))),
        "Whitespace" => out.push(Cut::Split {
            pattern: regex(r"\w+|[^\w\s]+")?,
            behavior: Behavior::Removed,
            inverts: true,
        }),
        "BertPreTokenizer" => out.extend(Cut::bert()),
        "Metaspace" => out.push(metaspace(step)?),
        _ => return unsupported("the pre-tokenizer", step),
    }
    Ok(())
}

fn metaspace(step: &Value) -> Result<Cut> {
    if text(step, "replacement")? != "\u{2581}" {
        return unsupported("another character for spaces in", step);
    }
    let prepend = match step["prepend_scheme"].as_str() {
        Some("first") => Prepend::First,
        Some("never") => Prepend::Never,
        // Old files have a flag in its place.
        None if !bool_or(step, "add_prefix_space", true) => Prepend::Never,
        None | Some(_) => Prepend::Always,
    };
    Ok(Cut::Metaspace {
        prepend,
        splits: bool_or(step, "split", true),
    })
}

fn behavior(step: &Value) -> Result<Behavior> {
    Ok(match step["behavior"].as_str().unwrap_or("Isolated") {
        "Removed" => Behavior::Removed,
        "Isolated" => Behavior::Isolated,
        "MergedWithPrevious" => Behavior::MergedWithPrevious,
        "MergedWithNext" => Behavior::MergedWithNext,
        "Contiguous" => Behavior::Contiguous,
        _ => return unsupported("the behavior of", step),
    })
}

fn pattern(pattern: &Value) -> Result<Pattern> {
    match (pattern["String"].as_str(), pattern["Regex"].as_str()) {
        (Some(text), _) => Ok(Pattern::Text(text.to_owned())),
        (None, Some(text)) => regex(text),
        (None, None) => Err(inconsistent("a pattern is neither a string nor a regex")),
    }
}

fn regex(pattern: &str) -> Result<Pattern> {
    match Regex::new(pattern) {
        Ok(regex) => Ok(Pattern::Regex(Box::new(regex))),
        Err(error) => Err(inconsistent(&format!("the pattern {pattern:?}: {error}"))),
    }
}

/// What stands before and behind each text.
pub(super) fn frame(step: &Value, vocabulary: &Vocabulary) -> Result<Frame> {
    let mut frame = Frame::default();
    let mut add = |step: &Value| -> Result<()> {
        match kind(step) {
            "ByteLevel" => {}
            "TemplateProcessing" => frame = template(step, vocabulary)?,
            "BertProcessing" | "RobertaProcessing" => {
                let id = |name: &str| known(step[name][1].as_u64(), vocabulary);
                frame = Frame {
                    before: vec![id("cls")?],
                    behind: vec![id("sep")?],
                };
            }
            _ => return unsupported("the post-processor", step),
        }
        Ok(())
    };
    flatten(step, "processors", &mut add, 0)?;
    Ok(frame)
}

fn template(step: &Value, vocabulary: &Vocabulary) -> Result<Frame> {
    let mut frame = Frame::default();
    let mut is_behind = false;
    for part in step["single"].as_array().into_iter().flatten() {
        if !part["Sequence"].is_null() {
            is_behind = true;
            continue;
        }
        let name = part["SpecialToken"]["id"].as_str().unwrap_or_default();
        let ids = step["special_tokens"][name]["ids"].as_array();
        let ids = ids.ok_or_else(|| inconsistent("the template names a token that it lacks"))?;
        let side = if is_behind {
            &mut frame.behind
        } else {
            &mut frame.before
        };
        for id in ids {
            side.push(known(id.as_u64(), vocabulary)?);
        }
    }
    Ok(frame)
}

fn known(id: Option<u64>, vocabulary: &Vocabulary) -> Result<TokenId> {
    id.filter(|id| *id < vocabulary.len() as u64)
        .map(|id| id as TokenId)
        .ok_or_else(|| inconsistent("a token around the text is not in the vocabulary"))
}

/// How tokens become text again.
pub(super) fn spelling(step: &Value) -> Result<Spelling> {
    let mut spelling = Spelling::Plain;
    let mut see = |step: &Value| -> Result<()> {
        match kind(step) {
            "ByteLevel" => spelling = Spelling::Bytes,
            "Metaspace" | "ByteFallback" => spelling = Spelling::Pieces,
            "Replace" if step["pattern"]["String"] == "\u{2581}" => spelling = Spelling::Pieces,
            "WordPiece" => spelling = Spelling::WordPiece,
            "Fuse" | "Strip" | "Replace" => {}
            _ => return unsupported("the decoder", step),
        }
        Ok(())
    };
    flatten(step, "decoders", &mut see, 0)?;
    Ok(spelling)
}
