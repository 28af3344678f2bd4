//! Adapters by name: loaded at the start or by a request, and named by requests from then on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use engine_core::AdapterId;
use engine_models::{Adapter, AdapterError};
use parking_lot::RwLock;
use thiserror::Error;
use tokio::task;
use tracing::info;

use crate::runner::Command;

use super::{ControlError, Engine};

/// An adapter that requests can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdapterInfo {
    pub(crate) name: String,
    /// The folder that it was read from.
    pub(crate) path: PathBuf,
    pub(crate) id: AdapterId,
}

/// Why an adapter is not loaded or unloaded.
#[derive(Debug, Error)]
pub(crate) enum AdapterFault {
    /// The name is that of another adapter, or of the model.
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// No adapter has the name.
    #[error("there is no adapter {0:?}")]
    UnknownName(String),
    /// There are as many as there may be.
    #[error("{limit} adapters are loaded already, more are not allowed")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The folder holds no adapter for this model.
    #[error(transparent)]
    Invalid(#[from] AdapterError),
    /// The step loop did not take it.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Reading it failed in a way that it must not.
    #[error("reading the adapter failed")]
    Reading,
}

/// The names.
#[derive(Debug)]
pub(crate) struct Adapters {
    limit: usize,
    /// Names that belong to the model.
    reserved: Vec<String>,
    next: AtomicU32,
    /// `None` while an adapter is read.
    names: RwLock<BTreeMap<String, Option<AdapterInfo>>>,
}

impl Adapters {
    /// No adapters, and at most `limit` later. They cannot have the names of the model.
    pub(crate) fn new(limit: usize, reserved: Vec<String>) -> Self {
        Self {
            limit,
            reserved,
            next: AtomicU32::new(0),
            names: RwLock::default(),
        }
    }

    /// All adapters, by name.
    pub(crate) fn list(&self) -> Vec<AdapterInfo> {
        self.names.read().values().flatten().cloned().collect()
    }

    /// The adapter that a request names: alone, or behind the model's name and a colon.
    pub(crate) fn find(&self, model: &str) -> Option<AdapterId> {
        let names = self.names.read();
        let id = |name: &str| names.get(name)?.as_ref().map(|info| info.id);
        id(model).or_else(|| {
            let (base, name) = model.split_once(':')?;
            id(name).filter(|_| self.reserved.iter().any(|reserved| reserved == base))
        })
    }

    /// Names an adapter that is there before the engine runs.
    ///
    /// # Errors
    /// [`AdapterFault`] if the name is taken or there are too many.
    pub(crate) fn insert(&self, name: &str, path: &Path) -> Result<AdapterId, AdapterFault> {
        self.reserve(name)?;
        let id = AdapterId(self.next.fetch_add(1, Ordering::Relaxed));
        let info = AdapterInfo {
            name: name.to_owned(),
            path: path.to_owned(),
            id,
        };
        self.names.write().insert(name.to_owned(), Some(info));
        Ok(id)
    }

    /// Takes a name for an adapter that will be read.
    fn reserve(&self, name: &str) -> Result<(), AdapterFault> {
        let mut names = self.names.write();
        if names.contains_key(name) || self.reserved.iter().any(|reserved| reserved == name) {
            return Err(AdapterFault::NameTaken(name.to_owned()));
        }
        if self.limit <= names.len() {
            return Err(AdapterFault::TooMany { limit: self.limit });
        }
        names.insert(name.to_owned(), None);
        Ok(())
    }
}

impl Engine {
    /// Reads an adapter from a folder; requests can name it from then on.
    ///
    /// # Errors
    /// [`AdapterFault`]; nothing has changed then.
    pub(crate) async fn load_adapter(
        &self,
        name: &str,
        path: &Path,
    ) -> Result<AdapterId, AdapterFault> {
        self.adapters.reserve(name)?;
        let loaded = self.read_adapter(name, path).await;
        let mut names = self.adapters.names.write();
        match &loaded {
            Ok(id) => {
                let info = AdapterInfo {
                    name: name.to_owned(),
                    path: path.to_owned(),
                    id: *id,
                };
                names.insert(name.to_owned(), Some(info));
                info!(adapter = name, path = %path.display(), "adapter loaded");
            }
            Err(_) => {
                names.remove(name);
            }
        }
        loaded
    }

    /// Forgets an adapter. Answers that are computed with it are finished.
    ///
    /// # Errors
    /// [`AdapterFault`] if there is none of this name.
    pub(crate) async fn unload_adapter(&self, name: &str) -> Result<(), AdapterFault> {
        let known = self.adapters.names.read().get(name).cloned().flatten();
        let info = known.ok_or_else(|| AdapterFault::UnknownName(name.to_owned()))?;
        let id = info.id;
        self.command(|done| Command::RemoveAdapter { id, done })
            .await?;
        self.adapters.names.write().remove(name);
        info!(adapter = name, "adapter unloaded");
        Ok(())
    }

    async fn read_adapter(&self, name: &str, path: &Path) -> Result<AdapterId, AdapterFault> {
        let (folder, config) = (path.to_owned(), self.config.clone());
        let reading = task::spawn_blocking(move || Adapter::open(&folder, &config));
        let adapter = Arc::new(reading.await.map_err(|_| AdapterFault::Reading)??);
        let id = AdapterId(self.adapters.next.fetch_add(1, Ordering::Relaxed));
        let name = name.to_owned();
        let command = |done| Command::AddAdapter {
            id,
            name,
            adapter,
            done,
        };
        self.command(command).await?;
        Ok(id)
    }
}
