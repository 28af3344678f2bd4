//! Limits: what a route gives its callers, and what keys, teams, users and tags have: requests and tokens in a time,
//! requests at once, money in a time.
//!
//! Before it is sent a request reserves what it may need, and settles what it did need when it ends. So requests that
//! run beside each other go over a limit by no more than one of them needs beyond its reservation.

mod left;
mod meter;
mod reached;
mod registry;
mod rule;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use protocol::snapshot::{Mode, Per};
use serde::{Deserialize, Serialize};
use tracing::warn;

use self::meter::{Meter, Missing};
pub(crate) use self::{
    left::{BudgetLeft, budget_left},
    meter::{Capacity, Left, Piece},
    reached::{Reached, Refused, Shortage},
    registry::{MeterId, Registry, Scope},
    rule::{InvalidRules, Rule, allowed, of_target, rules},
};
use crate::cost::Cost;

/// Names the soft limits of a key, a team, a user or a tag that the request is over.
const OVER: HeaderName = HeaderName::from_static("x-quarterdeck-soft-limit");

/// How often a request asks other replicas for what it lacks, where others are faster at what they give.
pub(crate) const SHORTAGES_MAX: usize = 64;

/// What a request may need, or what it needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Tokens of the prompt and of the answer.
    pub(crate) tokens: u64,
    /// Money.
    pub(crate) cost: Cost,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Resource {
    /// Requests in a time.
    Requests,
    /// Tokens in a time.
    Tokens,
    /// Requests at once.
    Concurrency,
    /// Nano-dollars in a time.
    Cost,
}

impl Resource {
    /// The label in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Concurrency => "concurrency",
            Self::Cost => "cost",
        }
    }

    const fn of(self, need: Need) -> u64 {
        match self {
            Self::Requests | Self::Concurrency => 1,
            Self::Tokens => need.tokens,
            Self::Cost => need.cost.nanos(),
        }
    }
}

/// Whom a request is counted for; empty names stand for nobody.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asker<'a> {
    /// The key's id.
    pub(crate) key: &'a str,
    /// The team's.
    pub(crate) team: &'a str,
    /// The user's.
    pub(crate) user: &'a str,
    /// The request's tags.
    pub(crate) tags: &'a [String],
    /// The model that is asked for.
    pub(crate) model: &'a str,
}

/// What a request holds of limits; what is not settled is given back.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    held: Vec<Held>,
    /// What the client is told of the tightest limits.
    headers: HeaderMap,
    /// Whether limits of requests, tokens and concurrency are left out.
    is_of_money: bool,
    /// Whether the request went out: then it counts as one, whatever becomes of it.
    is_sent: bool,
}

#[derive(Debug)]
struct Held {
    meter: Arc<Meter>,
    resource: Resource,
    capacity: Capacity,
    piece: Piece,
    /// Whether it is of somebody's limit, not of the route's.
    is_personal: bool,
}

impl Reservation {
    /// One that takes of budgets only.
    pub(crate) fn of_money() -> Self {
        Self {
            is_of_money: true,
            held: Vec::new(),
            headers: HeaderMap::new(),
            is_sent: false,
        }
    }

    /// Reserves what a request may need of some limits, besides what it holds. `over` hears of each limit that is
    /// reached, also of those that only watch.
    ///
    /// # Errors
    /// A limit is reached, or other replicas must be asked first; whoever drops the reservation then gives back what it
    /// held of others.
    pub(crate) fn take(
        &mut self,
        rules: &[Rule],
        asker: &Asker<'_>,
        need: Need,
        now: Timestamp,
        over: &mut impl FnMut(&Reached),
    ) -> Result<(), Refused> {
        for rule in rules.iter().filter(|rule| rule.is_about(asker.model)) {
            match rule.per {
                Per::Tag if !asker.tags.is_empty() => {
                    for tag in asker.tags {
                        self.take_one(rule, tag, need, now, over)?;
                    }
                }
                per => self.take_one(rule, asker.account(per), need, now, over)?,
            }
        }
        Ok(())
    }

    fn take_one(
        &mut self,
        rule: &Rule,
        account: &str,
        need: Need,
        now: Timestamp,
        over: &mut impl FnMut(&Reached),
    ) -> Result<(), Refused> {
        if self.is_of_money && rule.resource != Resource::Cost {
            return Ok(());
        }
        let meter = rule.meters.of(account);
        let amount = rule.resource.of(need);
        match meter.reserve(rule.capacity, amount, now) {
            Ok((piece, left)) => {
                // What others leave of a target is no affair of the client's.
                if !matches!(*rule.scope, Scope::Target { .. }) {
                    self.tell(rule, left);
                }
                self.held.push(Held {
                    meter,
                    resource: rule.resource,
                    capacity: rule.capacity,
                    piece,
                    is_personal: matches!(*rule.scope, Scope::Party { .. }),
                });
                Ok(())
            }
            Err(Missing::Slice(pool)) => Err(Refused::Short(Shortage {
                pool,
                capacity: rule.capacity,
                amount,
            })),
            Err(Missing::Until(retry_after)) => {
                let reached = Reached::new(rule, retry_after);
                over(&reached);
                match rule.mode {
                    Mode::Enforce => Err(Refused::Reached(reached)),
                    Mode::Shadow => {
                        warn!(limit = rule.name, %reached, "a limit that only watches is reached");
                        if let (Scope::Party { .. }, Ok(name)) =
                            (&*rule.scope, HeaderValue::from_str(&rule.name))
                        {
                            self.headers.append(OVER, name);
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    /// Takes what is held of another route's limits in the place of what is held of this one's. What the key and others
    /// who are accountable have reserved stays.
    pub(crate) fn move_to(&mut self, mut other: Self) {
        // What is left behind moves there, and is given back when it is dropped.
        let (personal, left) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| held.is_personal);
        self.held = personal;
        self.held.append(&mut other.held);
        self.headers.extend(std::mem::take(&mut other.headers));
        other.held = left;
    }

    /// Holds what another reservation holds besides.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.held.append(&mut other.held);
    }

    /// Says whether the request went out to whoever the limits protect.
    pub(crate) const fn note_sent(&mut self, is_sent: bool) {
        self.is_sent = is_sent;
    }

    /// Puts what was needed in the place of what was reserved.
    pub(crate) fn settle(&mut self, need: Need, now: Timestamp) {
        for held in self.held.drain(..) {
            let used = held.resource.of(need);
            held.meter.settle(held.capacity, held.piece, used, now);
        }
    }

    /// The headers that tell how much is left, by the names of OpenAI's API.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn tell(&mut self, rule: &Rule, left: Left) {
        const REQUESTS: [HeaderName; 3] = [
            HeaderName::from_static("x-ratelimit-limit-requests"),
            HeaderName::from_static("x-ratelimit-remaining-requests"),
            HeaderName::from_static("x-ratelimit-reset-requests"),
        ];
        const TOKENS: [HeaderName; 3] = [
            HeaderName::from_static("x-ratelimit-limit-tokens"),
            HeaderName::from_static("x-ratelimit-remaining-tokens"),
            HeaderName::from_static("x-ratelimit-reset-tokens"),
        ];
        let [limit, remaining, reset] = match rule.resource {
            Resource::Requests => REQUESTS,
            Resource::Tokens => TOKENS,
            Resource::Concurrency | Resource::Cost => return,
        };
        let told = self.headers.get(&remaining);
        let told = told.and_then(|told| told.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|told| told <= left.amount) {
            return;
        }
        self.headers
            .insert(limit, HeaderValue::from(rule.capacity.limit()));
        self.headers
            .insert(remaining, HeaderValue::from(left.amount));
        let seconds = format!("{}ms", left.full_after.as_millis());
        if let Ok(value) = HeaderValue::from_str(&seconds) {
            self.headers.insert(reset, value);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            match held.resource {
                Resource::Requests if self.is_sent => {
                    let Held {
                        capacity, piece, ..
                    } = held;
                    held.meter
                        .settle(capacity, piece, piece.amount, Timestamp::now());
                }
                _ => held.meter.release(held.capacity, held.piece),
            }
        }
    }
}

impl<'a> Asker<'a> {
    /// The account of a limit whose requests count together so.
    fn account(&self, per: Per) -> &'a str {
        match per {
            Per::Key => self.key,
            Per::Team => self.team,
            Per::User => self.user,
            Per::Model => self.model,
            Per::Tag | Per::Route => "",
        }
    }
}

#[cfg(test)]
mod tests;
