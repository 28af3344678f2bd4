//! Which parts of a scope an expression or a template reads: only those are converted, since a state may be large.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Scope;

/// Channels that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Channels {
    Named(BTreeSet<String>),
    /// Which ones is known only when it runs.
    All,
}

/// Parts of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uses {
    channels: Channels,
    input: bool,
    run: bool,
}

impl Uses {
    /// Everything.
    pub(super) const fn all() -> Self {
        Self {
            channels: Channels::All,
            input: true,
            run: true,
        }
    }

    /// The parts that these paths name, as `state.n`.
    ///
    /// # Errors
    /// The first name that a scope does not have.
    pub(super) fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut uses = Self {
            channels: Channels::Named(BTreeSet::new()),
            input: false,
            run: false,
        };
        for path in paths {
            let mut parts = path.split('.');
            match (parts.next().unwrap_or_default(), parts.next()) {
                ("state", Some(channel)) => {
                    if let Channels::Named(named) = &mut uses.channels {
                        named.insert(channel.to_owned());
                    }
                }
                ("state", None) => uses.channels = Channels::All,
                ("input", _) => uses.input = true,
                ("run", _) => uses.run = true,
                (name, _) => return Err(name.to_owned()),
            }
        }
        Ok(uses)
    }

    pub(super) fn state(&self) -> bool {
        match &self.channels {
            Channels::Named(named) => !named.is_empty(),
            Channels::All => true,
        }
    }

    pub(super) const fn input(&self) -> bool {
        self.input
    }

    pub(super) const fn run(&self) -> bool {
        self.run
    }

    /// The channels that are read, in the order of the state.
    pub(super) fn channels<'a>(
        &'a self,
        scope: Scope<'a>,
    ) -> impl Iterator<Item = (&'a String, &'a Value)> {
        scope.state.iter().filter(|(name, _)| match &self.channels {
            Channels::Named(named) => named.contains(*name),
            Channels::All => true,
        })
    }
}
