//! A limit that is reached, and what its caller is told.

use std::{fmt, sync::Arc, time::Duration};

use protocol::{openai::ErrorKind, snapshot::Per};

use super::{
    Resource, Rule, Scope,
    meter::{Capacity, NEVER},
};
use crate::{cost::dollars, fault::Fault, leases::Pool};

/// Why a request gets nothing of a limit.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is reached.
    Reached(Reached),
    /// This replica holds too little of it; once the others were asked it can be tried again.
    Short(Shortage),
}

/// What a replica holds too little of.
#[derive(Debug)]
pub(crate) struct Shortage {
    /// The shared limit.
    pub(crate) pool: Arc<Pool>,
    /// How much there is in all.
    pub(crate) capacity: Capacity,
    /// What the request needs.
    pub(crate) amount: u64,
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The limit's name, bounded by what routes and allowances have.
    pub(crate) name: String,
    /// What is limited.
    pub(crate) resource: Resource,
    capacity: Capacity,
    scope: Arc<Scope>,
    per: Per,
    retry_after: Duration,
}

impl Reached {
    /// A rule that has no more until then.
    pub(super) fn new(rule: &Rule, retry_after: Duration) -> Self {
        Self {
            name: rule.name.clone(),
            resource: rule.resource,
            capacity: rule.capacity,
            scope: Arc::clone(&rule.scope),
            per: rule.per,
            retry_after,
        }
    }

    /// When there may be enough of it again.
    pub(crate) const fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// What the caller is told.
    pub(crate) fn fault(&self) -> Fault {
        let kind = match self.resource {
            Resource::Cost => ErrorKind::QuotaExceeded,
            Resource::Requests | Resource::Tokens | Resource::Concurrency => ErrorKind::RateLimited,
        };
        if self.retry_after == NEVER {
            let message = format!("{self} Ask for a higher one.");
            return Fault::new(kind, message);
        }
        let seconds = self.retry_after.as_secs_f64().ceil().max(1.0) as u64;
        Fault {
            retry_after: Some(seconds),
            ..Fault::new(kind, format!("{self} Try again in {seconds} s."))
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "The limit `{}` of ", self.name)?;
        match (&*self.scope, self.per) {
            (Scope::Party { kind, id, .. }, _) => write!(formatter, "the {kind} `{id}`")?,
            (Scope::Target { target, .. }, _) => write!(formatter, "the target `{target}`")?,
            (Scope::Route(_), Per::Key) => formatter.write_str("this key")?,
            (Scope::Route(_), Per::Route) => formatter.write_str("this route")?,
            (Scope::Route(_), Per::Team) => formatter.write_str("your team")?,
            (Scope::Route(_), Per::User) => formatter.write_str("this user")?,
            (Scope::Route(_), Per::Tag) => formatter.write_str("this tag")?,
            (Scope::Route(_), Per::Model) => formatter.write_str("this model")?,
        }
        let (limit, window) = (self.capacity.limit(), self.capacity.describe_window());
        formatter.write_str(" is reached: ")?;
        match self.resource {
            Resource::Requests => write!(formatter, "{limit} requests{window}."),
            Resource::Tokens => write!(formatter, "{limit} tokens{window}."),
            Resource::Concurrency => write!(formatter, "{limit} requests at once."),
            Resource::Cost => {
                let amount = dollars(limit);
                write!(formatter, "{amount} US dollars{window}.")
            }
        }
    }
}
