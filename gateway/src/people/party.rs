//! Parties: who is accountable for requests, with what holds for them now.
//!
//! A party outlives the keys and tables that name it: a change of a team holds for all its keys at once, and a team that
//! keys name before somebody makes it has no restrictions until then.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, RwLock};
use protocol::allowance::Allowance;
use thiserror::Error;

use super::Kind;
use crate::{
    limits::{self, InvalidRules, Registry, Rule},
    table::{InvalidPattern, Pattern},
};

/// Parties that are kept before those that nobody names are forgotten.
const PARTIES_KEPT: usize = 1024;

/// Somebody who is accountable for requests: a team, a user or a tag.
#[derive(Debug, Default)]
pub(crate) struct Party(RwLock<Arc<Standing>>);

/// What holds for somebody.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Whether requests are refused.
    pub(crate) is_blocked: bool,
    /// The models that it may use; all if there are none.
    models: Vec<Pattern>,
    /// What it may use and spend.
    pub(crate) rules: Vec<Rule>,
}

/// Why an allowance cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidAllowance {
    /// A model that is no pattern.
    #[error("models: {0}")]
    Models(#[from] InvalidPattern),
    /// Limits that contradict each other.
    #[error("limits and budgets: {0}")]
    Rules(#[from] InvalidRules),
}

impl Standing {
    /// What an allowance comes to.
    ///
    /// # Errors
    /// [`InvalidAllowance`]
    pub(crate) fn compile(
        kind: Kind,
        id: &str,
        allowance: &Allowance,
        meters: &Registry,
    ) -> Result<Self, InvalidAllowance> {
        let models = allowance.models.iter().map(|model| Pattern::parse(model));
        Ok(Self {
            is_blocked: false,
            models: models.collect::<Result<_, _>>()?,
            rules: limits::allowed(kind, id, allowance, meters)?,
        })
    }

    /// Whether the model may be asked for.
    pub(crate) fn allows(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.matches(model))
    }
}

impl Party {
    /// What holds for it now.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.0.read())
    }

    /// From now on this holds for it; requests in progress settle what they have reserved.
    pub(crate) fn stand(&self, standing: Standing) {
        *self.0.write() = Arc::new(standing);
    }
}

/// The parties that are known, by kind and id.
#[derive(Debug, Default)]
pub(crate) struct Parties(Mutex<HashMap<(Kind, String), Arc<Party>>>);

impl Parties {
    /// The party of this name, which is made if need be.
    pub(crate) fn get(&self, kind: Kind, id: &str) -> Arc<Party> {
        let mut parties = self.0.lock();
        let name = (kind, id.to_owned());
        if let Some(party) = parties.get(&name) {
            return Arc::clone(party);
        }
        if PARTIES_KEPT <= parties.len() && parties.len().is_power_of_two() {
            // One that was made at run time is held by its keeper.
            parties.retain(|_, party| 1 < Arc::strong_count(party));
        }
        let party = Arc::new(Party::default());
        parties.insert(name, Arc::clone(&party));
        party
    }

    /// All parties of a kind that are known, by id.
    pub(crate) fn all(&self, kind: Kind) -> Vec<(String, Arc<Party>)> {
        let parties = self.0.lock();
        let of_kind = parties.iter().filter(|((known, _), _)| *known == kind);
        of_kind
            .map(|((_, id), party)| (id.clone(), Arc::clone(party)))
            .collect()
    }

    /// The party of this name, if anybody made or named it.
    pub(crate) fn find(&self, kind: Kind, id: &str) -> Option<Arc<Party>> {
        self.0.lock().get(&(kind, id.to_owned())).cloned()
    }
}
