//! What a source has: names and where to get them, chosen from before anything is fetched.

use super::choose::{Choice, Unclear, choose};
use super::download::Remote;
use super::error::FetchError;
use super::name::FileName;

/// Files of a source that are looked at.
pub(super) const FILES_MAX: usize = 100_000;

/// A file of a source.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) name: FileName,
    pub(super) remote: Remote,
}

/// All files of a source.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<Listed>,
    /// The commit or digest that the address stands for.
    pub(super) revision: Option<String>,
}

impl Listing {
    /// The files that an engine needs, out of a source called `what`.
    pub(super) fn choose(&self, what: &str) -> Result<Choice, FetchError> {
        let names: Vec<FileName> = self.files.iter().map(|file| file.name.clone()).collect();
        choose(&names).map_err(|unclear| explain(&unclear, what))
    }

    pub(super) fn remote(&self, name: &FileName) -> Option<&Remote> {
        let found = self.files.iter().find(|file| file.name == *name);
        found.map(|file| &file.remote)
    }
}

/// Why a source has no model for us, and what to do.
pub(super) fn explain(unclear: &Unclear, what: &str) -> FetchError {
    match unclear {
        Unclear::Nothing => FetchError::NotFound {
            what: format!("a GGUF file or a folder of safetensors with its config.json in {what}"),
            advice: "choose another source".to_owned(),
        },
        Unclear::Several(names) => FetchError::NotFound {
            what: format!("one model in {what}"),
            advice: format!("name one of {} at the end of the source", names.join(", ")),
        },
    }
}
