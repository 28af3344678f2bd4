//! Which of a source's files an engine needs: one GGUF file, or a folder of safetensors with its configuration.

use std::collections::BTreeSet;
use std::path::Path;

use super::Fetched;
use super::name::FileName;

const CONFIG: &str = "config.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const INDEX: &str = "model.safetensors.index.json";
const GGUF: &str = ".gguf";
const SAFETENSORS: &str = ".safetensors";
/// What an engine reads beside the weights.
const COMPANIONS: [&str; 15] = [
    CONFIG,
    ADAPTER_CONFIG,
    INDEX,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "sentence_bert_config.json",
];
const NAMED_MAX: usize = 20;

/// What is taken of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// One file.
    File(FileName),
    /// Some files of a folder.
    Folder {
        /// The folder with the configuration, empty for the top.
        root: String,
        /// The files, with their whole names.
        names: Vec<FileName>,
    },
}

/// Why nothing can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unclear {
    /// There are no weights.
    Nothing,
    /// There are several; the address must name one.
    Several(Vec<String>),
}

impl Choice {
    /// Where the model lies when the files are under `folder`.
    pub(super) fn fetched(&self, folder: &Path) -> Fetched {
        match self {
            Self::File(name) => Fetched::File(name.under(folder)),
            Self::Folder { root, .. } if root.is_empty() => Fetched::Folder(folder.to_owned()),
            Self::Folder { root, .. } => Fetched::Folder(folder.join(root)),
        }
    }

    pub(super) fn names(&self) -> Vec<&FileName> {
        match self {
            Self::File(name) => vec![name],
            Self::Folder { names, .. } => names.iter().collect(),
        }
    }
}

/// Whether a file may be of use, whatever lies beside it.
pub(super) fn is_candidate(name: &FileName) -> bool {
    let (_, last) = name.split();
    COMPANIONS.contains(&last) || last.ends_with(SAFETENSORS) || last.ends_with(GGUF)
}

/// Chooses among all files of a source. A folder of safetensors goes before GGUF files.
pub(super) fn choose(names: &[FileName]) -> Result<Choice, Unclear> {
    let roots = shallowest(&model_folders(names));
    match roots.as_slice() {
        [root] => {
            return Ok(Choice::Folder {
                root: (*root).to_owned(),
                names: needed(names, root),
            });
        }
        [] => {}
        several => return Err(Unclear::Several(shortened(several))),
    }
    let files: Vec<&FileName> = names
        .iter()
        .filter(|name| name.as_str().ends_with(GGUF))
        .collect();
    match files.as_slice() {
        [] => Err(Unclear::Nothing),
        [file] => Ok(Choice::File((*file).clone())),
        several => {
            let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            Err(Unclear::Several(shortened(&names)))
        }
    }
}

fn shortened(names: &[&str]) -> Vec<String> {
    names
        .iter()
        .take(NAMED_MAX)
        .map(|name| (*name).to_owned())
        .collect()
}

/// The folders with weights and the configuration that belongs to them.
fn model_folders(names: &[FileName]) -> BTreeSet<&str> {
    let with = |is_wanted: &dyn Fn(&str) -> bool| -> BTreeSet<&str> {
        names
            .iter()
            .map(FileName::split)
            .filter(|(_, last)| is_wanted(last))
            .map(|(folder, _)| folder)
            .collect()
    };
    let weights = with(&|last| last.ends_with(SAFETENSORS));
    let configured = with(&|last| last == CONFIG || last == ADAPTER_CONFIG);
    weights.intersection(&configured).copied().collect()
}

fn shallowest<'a>(folders: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let depth = |folder: &str| folder.split('/').filter(|part| !part.is_empty()).count();
    let least = folders.iter().map(|folder| depth(folder)).min();
    folders
        .iter()
        .filter(|folder| Some(depth(folder)) == least)
        .copied()
        .collect()
}

/// The files of a model's folder that an engine reads, and those of its pooling layers.
fn needed(names: &[FileName], root: &str) -> Vec<FileName> {
    let inner = |name: &FileName| -> Option<String> {
        if root.is_empty() {
            return Some(name.as_str().to_owned());
        }
        let rest = name.as_str().strip_prefix(root)?.strip_prefix('/')?;
        Some(rest.to_owned())
    };
    let tops: Vec<String> = names
        .iter()
        .filter_map(inner)
        .filter(|name| !name.contains('/'))
        .collect();
    let is_sharded = tops.iter().any(|name| name == INDEX);
    let has = |wanted: &str| tops.iter().any(|name| name == wanted);
    let is_weight = |last: &str| {
        if is_sharded {
            is_shard(last)
        } else if has("model.safetensors") {
            last == "model.safetensors"
        } else if has("adapter_model.safetensors") {
            last == "adapter_model.safetensors"
        } else {
            last.ends_with(SAFETENSORS)
        }
    };
    let is_needed = |inner: &str| match inner.split_once('/') {
        None => COMPANIONS.contains(&inner) || is_weight(inner),
        Some((folder, last)) => {
            is_pooling(folder) && (last == CONFIG || last == "model.safetensors")
        }
    };
    names
        .iter()
        .filter(|name| inner(name).is_some_and(|inner| is_needed(&inner)))
        .cloned()
        .collect()
}

/// `model-00001-of-00003.safetensors`; repositories may hold the same weights again under other names.
fn is_shard(name: &str) -> bool {
    name.starts_with("model-") && name.contains("-of-") && name.ends_with(SAFETENSORS)
}

/// `1_Pooling`, as sentence encoders name their layers.
fn is_pooling(folder: &str) -> bool {
    folder.split_once('_').is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::{Choice, Unclear, choose};
    use crate::source::name::FileName;

    #[track_caller]
    fn check(names: &[&str], expected: Result<(&str, &[&str]), Unclear>) {
        let names: Vec<FileName> = names
            .iter()
            .map(|name| FileName::try_from(*name).unwrap())
            .collect();
        let found = choose(&names).map(|choice| match choice {
            Choice::File(name) => ("file".to_owned(), vec![name.as_str().to_owned()]),
            Choice::Folder { root, names } => (
                root,
                names.iter().map(|name| name.as_str().to_owned()).collect(),
            ),
        });
        let expected = expected.map(|(root, names)| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            (root.to_owned(), names)
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn the_files_that_an_engine_reads_are_chosen() {
        let several = |names: &[&str]| {
            Err(Unclear::Several(
                names.iter().map(|name| (*name).to_owned()).collect(),
            ))
        };
        check(&["README.md"], Err(Unclear::Nothing));
        check(&["README.md", "a/x.gguf"], Ok(("file", &["a/x.gguf"])));
        check(&["x.gguf", "y.gguf"], several(&["x.gguf", "y.gguf"]));
        let plain = ["config.json", "model.safetensors", "tokenizer.json"];
        let mut all = plain.to_vec();
        all.extend([".gitattributes", "README.md", "model.fp16.safetensors"]);
        all.extend([
            "onnx/model.onnx",
            "x.gguf",
            "original/consolidated.safetensors",
        ]);
        check(&all, Ok(("", &plain)));
        let sharded = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ];
        let mut all = sharded.to_vec();
        all.push("consolidated.safetensors");
        check(&all, Ok(("", &sharded)));
        let encoder = [
            "1_Pooling/config.json",
            "config.json",
            "model.safetensors",
            "modules.json",
        ];
        check(&encoder, Ok(("", &encoder)));
        let nested = ["models/config.json", "models/model.safetensors"];
        let mut all = nested.to_vec();
        all.extend(["bin/sh", "config.json", "models/draft/config.json"]);
        all.push("models/draft/model.safetensors");
        check(&all, Ok(("models", &nested)));
        let adapter = ["adapter_config.json", "adapter_model.safetensors"];
        check(&adapter, Ok(("", &adapter)));
        let two = [
            "a/config.json",
            "a/m.safetensors",
            "b/config.json",
            "b/m.safetensors",
        ];
        check(&two, several(&["a", "b"]));
        check(&["model.safetensors"], Err(Unclear::Nothing));
    }
}
