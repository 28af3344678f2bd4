//! Terms: what a key may do, and who else is accountable for its requests.

use std::sync::Arc;

use jiff::Timestamp;
use protocol::allowance::Allowance;

use super::{
    Kind,
    party::{InvalidAllowance, Parties, Party, Standing},
};
use crate::{
    jwt::Signed,
    limits::{Asker, Need, Reached, Refused, Registry, Reservation, Rule},
};

/// A key.
#[derive(Debug, Default)]
pub(crate) struct Key {
    /// The ledger's account.
    pub(crate) id: String,
    /// When it ends.
    pub(crate) expires: Option<Timestamp>,
    /// What was said of it; nothing of most declared keys.
    pub(crate) terms: Option<Box<Terms>>,
    /// Who has signed it, if it is a token.
    pub(crate) signed: Option<Box<Signed>>,
}

/// What a key may do, and who else is accountable.
#[derive(Debug)]
pub(crate) struct Terms {
    /// The team's id; empty without one.
    pub(crate) team: String,
    /// The user's; empty without one.
    pub(crate) user: String,
    /// The tags of all requests.
    pub(crate) tags: Vec<String>,
    /// Routes that it may use though they ask for other keys, as `NAMESPACE/NAME`.
    routes: Vec<String>,
    /// Models that are asked when the one that a request names gives no answer.
    pub(crate) fallbacks: Vec<String>,
    own: Standing,
    /// The team, the user and the tags.
    parties: Vec<Arc<Party>>,
}

/// What is said of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    /// The key's id.
    pub(crate) id: &'a str,
    /// The team's.
    pub(crate) team: Option<&'a str>,
    /// The user's.
    pub(crate) user: Option<&'a str>,
    /// Tags of all requests.
    pub(crate) tags: &'a [String],
    /// Routes that it may use though they ask for other keys.
    pub(crate) routes: &'a [String],
    /// What it may use and spend.
    pub(crate) allowance: &'a Allowance,
    /// Whether it is refused.
    pub(crate) is_blocked: bool,
}

impl Terms {
    /// What was said of a key, ready to be asked.
    ///
    /// # Errors
    /// [`InvalidAllowance`]
    pub(crate) fn compile(
        said: Said<'_>,
        parties: &Parties,
        meters: &Registry,
    ) -> Result<Self, InvalidAllowance> {
        let mut own = Standing::compile(Kind::Key, said.id, said.allowance, meters)?;
        own.is_blocked = said.is_blocked;
        let team = said.team.map(|team| parties.get(Kind::Team, team));
        let user = said.user.map(|user| parties.get(Kind::User, user));
        let tags = said.tags.iter().map(|tag| parties.get(Kind::Tag, tag));
        Ok(Self {
            team: said.team.unwrap_or_default().to_owned(),
            user: said.user.unwrap_or_default().to_owned(),
            tags: said.tags.to_vec(),
            routes: said.routes.to_vec(),
            fallbacks: said.allowance.fallbacks.clone(),
            own,
            parties: team.into_iter().chain(user).chain(tags).collect(),
        })
    }

    /// What the key itself may use and spend.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.own.rules
    }

    /// Whether the key or somebody whom it belongs to is blocked.
    pub(crate) fn is_blocked(&self) -> bool {
        let mut parties = self.parties.iter();
        self.own.is_blocked || parties.any(|party| party.standing().is_blocked)
    }

    /// Whether all who are accountable may use the model.
    pub(crate) fn allows(&self, model: &str) -> bool {
        let mut parties = self.parties.iter();
        self.own.allows(model) && parties.all(|party| party.standing().allows(model))
    }

    /// Whether it may use this route though the route asks for other keys.
    pub(crate) fn opens(&self, route: &str) -> bool {
        self.routes.iter().any(|open| open == route)
    }

    /// Reserves what a request may need of all who are accountable.
    ///
    /// # Errors
    /// A limit of one of them is reached, or other replicas must be asked first.
    pub(crate) fn reserve(
        &self,
        reservation: &mut Reservation,
        asker: &Asker<'_>,
        need: Need,
        now: Timestamp,
        over: &mut impl FnMut(&Reached),
    ) -> Result<(), Refused> {
        reservation.take(&self.own.rules, asker, need, now, over)?;
        for party in &self.parties {
            reservation.take(&party.standing().rules, asker, need, now, over)?;
        }
        Ok(())
    }
}
