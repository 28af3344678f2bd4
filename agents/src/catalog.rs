//! The catalog: which agents there are, compiled, and which keys may call them; swapped whole with each snapshot.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::RwLock;
use protocol::{
    agent::Definition,
    key::hash_key,
    snapshot::{AgentEntry, AgentsSnapshot, KeyEntry},
};
use tokio::sync::watch;

use crate::{
    definition::{CompiledAgent, InvalidDefinition, Revision, addresses, pin},
    store::Account,
};

/// Longest report of faults to the operator.
const FAULTS_CHARS_MAX: usize = 4096;

/// An agent as the last snapshot has it.
#[derive(Debug)]
pub(crate) struct LiveAgent {
    /// With credentials; never stored.
    pub(crate) entry: AgentEntry,
    pub(crate) compiled: Arc<CompiledAgent>,
    /// What a run pins, as JSON.
    pub(crate) pinned: String,
}

impl LiveAgent {
    fn allows(&self, account: &Account) -> bool {
        self.entry.keys.is_empty() || self.entry.keys.contains(&account.0)
    }
}

#[derive(Debug, Default)]
struct Tables {
    /// By namespace and name.
    agents: BTreeMap<(String, String), Arc<LiveAgent>>,
    /// By hash.
    keys: HashMap<String, KeyEntry>,
}

/// The live agents and keys.
#[derive(Debug)]
pub(crate) struct Catalog {
    tables: RwLock<Arc<Tables>>,
    is_loaded: watch::Sender<bool>,
}

/// What asking for an agent by a model's name came to.
#[derive(Debug)]
pub(crate) enum Lookup {
    Found(Arc<LiveAgent>),
    Unknown,
    /// Several namespaces have it.
    Ambiguous,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        Self {
            tables: RwLock::default(),
            is_loaded: watch::Sender::new(false),
        }
    }

    /// Takes a snapshot. Keys and good agents are in use afterwards in any case: a bad agent of one team must not keep
    /// another's from changing, nor a revoked key alive. A bad agent keeps its last good definition.
    ///
    /// # Errors
    /// The bad agents and why, for the operator.
    pub(crate) fn apply(&self, snapshot: AgentsSnapshot) -> Result<(), String> {
        let before = Arc::clone(&self.tables.read());
        let mut agents = BTreeMap::new();
        let mut faults = Vec::new();
        for entry in snapshot.agents {
            let id = (entry.namespace.clone(), entry.name.clone());
            let known = before.agents.get(&id);
            match LiveAgent::new(entry, known) {
                Ok(agent) => {
                    agents.insert(id, Arc::new(agent));
                }
                Err(fault) => {
                    faults.push(format!("agent {}/{}: {fault}", id.0, id.1));
                    if let Some(known) = known {
                        agents.insert(id, Arc::clone(known));
                    }
                }
            }
        }
        let keys = snapshot
            .keys
            .into_iter()
            .map(|key| (key.hash.clone(), key))
            .collect();
        tracing::debug!(version = %snapshot.version, agents = agents.len(), "catalog swapped");
        *self.tables.write() = Arc::new(Tables { agents, keys });
        self.is_loaded.send_replace(true);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; ").chars().take(FAULTS_CHARS_MAX).collect())
        }
    }

    /// Waits for the first snapshot.
    pub(crate) async fn loaded(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self
            .is_loaded
            .subscribe()
            .wait_for(|is_loaded| *is_loaded)
            .await;
    }

    pub(crate) fn is_loaded(&self) -> bool {
        *self.is_loaded.borrow()
    }

    fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.read())
    }

    /// Whose key this is; `None` if there is no such key or its time is over.
    pub(crate) fn account(&self, key: &str) -> Option<Account> {
        let tables = self.tables();
        let entry = tables.keys.get(&hash_key(key))?;
        // A time that cannot be read is over: failing open would be worse.
        let is_expired = entry.expires.as_ref().is_some_and(|expires| {
            expires
                .parse::<Timestamp>()
                .map_or(true, |time| time <= Timestamp::now())
        });
        (!is_expired).then(|| Account(entry.id.clone()))
    }

    /// An agent, for work on its runs.
    pub(crate) fn agent(&self, namespace: &str, name: &str) -> Option<Arc<LiveAgent>> {
        self.tables()
            .agents
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// An agent that an account may call; `None` as well if there is one that it may not.
    pub(crate) fn callable(
        &self,
        account: &Account,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<LiveAgent>> {
        self.agent(namespace, name)
            .filter(|agent| agent.allows(account))
    }

    /// The agents that an account may call, by namespace and name.
    pub(crate) fn callables(&self, account: &Account) -> Vec<Arc<LiveAgent>> {
        self.tables()
            .agents
            .values()
            .filter(|agent| agent.allows(account))
            .cloned()
            .collect()
    }

    /// The agent that a model's name means: `NAMESPACE/NAME`, or `NAME` where only one namespace has it.
    pub(crate) fn by_model(&self, account: &Account, model: &str) -> Lookup {
        if let Some((namespace, name)) = model.split_once('/') {
            return self
                .callable(account, namespace, name)
                .map_or(Lookup::Unknown, Lookup::Found);
        }
        let mut named = self
            .callables(account)
            .into_iter()
            .filter(|agent| agent.entry.name == model);
        match (named.next(), named.next()) {
            (None, _) => Lookup::Unknown,
            (Some(agent), None) => Lookup::Found(agent),
            (Some(_), Some(_)) => Lookup::Ambiguous,
        }
    }
}

impl LiveAgent {
    fn new(entry: AgentEntry, known: Option<&Arc<Self>>) -> Result<Self, InvalidDefinition> {
        addresses(&entry.definition)?;
        let (revision, definition) = pin(&entry.definition);
        let compiled = match known {
            Some(known) if known.compiled.revision == revision => Arc::clone(&known.compiled),
            _ => Arc::new(CompiledAgent::compile(revision, &definition)?),
        };
        // A definition serialises without fail: string keys only, no floats but finite ones.
        let pinned = serde_json::to_string(&definition).unwrap_or_default();
        Ok(Self {
            entry,
            compiled,
            pinned,
        })
    }
}

/// Compiles the definition that a run pinned, or finds it among the live ones.
pub(crate) fn compile_pinned(
    live: Option<&LiveAgent>,
    revision: &Revision,
    definition: &Definition,
) -> Result<Arc<CompiledAgent>, InvalidDefinition> {
    match live {
        Some(live) if live.compiled.revision == *revision => Ok(Arc::clone(&live.compiled)),
        _ => Ok(Arc::new(CompiledAgent::compile(
            revision.clone(),
            definition,
        )?)),
    }
}
