//! What replicas say to each other about a pool.

use serde::{Deserialize, Serialize};

use super::book::{Book, Part, Stamp};
use crate::{
    limits::{Capacity, MeterId},
    people::Page,
};

/// One limit of one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct PoolId {
    /// The limit.
    pub(crate) limit: MeterId,
    /// Whose requests count together.
    pub(crate) account: String,
}

/// A term of an owner's. Those of one number are told apart by the owners' names.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Term {
    pub(super) number: u64,
    pub(super) owner: String,
}

/// What one replica sends to another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Letter {
    /// About one pool.
    About(Message),
    /// What do you know of all pools? Said by a replica that has just started.
    Tell,
    /// Which keys, teams, users and tags were made or changed after this change of this file?
    Changes {
        /// The file.
        store: String,
        /// The change's number there.
        after: i64,
    },
    /// Something of them has changed at this replica.
    Look {
        /// The replica.
        at: String,
    },
}

/// What a replica knows of a pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tale {
    pub(super) pool: PoolId,
    pub(super) limit: u64,
    pub(super) window: i64,
    /// The newest term that it has heard of.
    pub(super) term: Term,
    pub(super) book: Book,
}

/// A question of one replica to another, about one pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    /// About this pool.
    pub(crate) pool: PoolId,
    /// How much there is in all.
    pub(crate) limit: u64,
    /// The window that it is about.
    pub(super) window: i64,
    /// Who asks.
    pub(super) from: String,
    pub(super) what: What,
}

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum What {
    /// May I use so much in all? Said to the owner.
    Ask {
        /// The asker's part.
        part: Part,
        /// What it needs; no more than its part if it only reports.
        least: u64,
        /// What it would like besides, so that it need not ask again soon.
        wish: u64,
    },
    /// A term begins: listen to no older one, and say what you know.
    Begin {
        /// The term.
        term: Term,
    },
    /// Give back what you do not use.
    Recall {
        /// The owner's term.
        term: Term,
    },
    /// Remember what was given.
    Remember {
        /// The owner's term.
        term: Term,
        /// What is known of all.
        book: Book,
    },
}

/// The answer to a [`Letter`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The asker may use so much in all.
    Granted(Grant),
    /// There is not so much.
    Refused(Denial),
    /// The question is older than the asker's last word, which is this.
    Outdated {
        /// The last word.
        stamp: Stamp,
    },
    /// The owner's term is over: ask again.
    Again,
    /// No majority of replicas can be reached from here.
    Alone,
    /// The replica has just started and does not know yet what it knew before.
    Unsettled,
    /// What a replica knows of all pools.
    Told {
        /// Whether it knows all that it knew before it started.
        is_settled: bool,
        /// What it knows.
        tales: Vec<Tale>,
    },
    /// The replica's word, and what it knows of others.
    Stated {
        /// Who says so.
        name: String,
        /// What it knows, its own part as well.
        book: Book,
    },
    /// It is remembered.
    Remembered,
    /// Keys, teams, users and tags that were made or changed.
    Changes(Page),
    /// The changes are taken, as far as they could be.
    Looked,
    /// A newer term has begun.
    Fenced {
        /// The newer term.
        term: Term,
    },
}

/// What was given to a replica.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(super) term: Term,
    /// The turn of the question.
    pub(super) turn: u64,
    /// What it may use in all.
    pub(super) ceiling: u64,
    /// Whether it is for one request alone, which may need more than is left.
    pub(super) is_lone: bool,
    /// What is known of all.
    pub(super) book: Book,
}

/// Why nothing was given to a replica.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Denial {
    /// The turn of the question.
    pub(super) turn: u64,
    /// How much was missing.
    pub(super) missing: u64,
    /// Whether all is used, so that nothing comes back before its time.
    pub(super) is_spent: bool,
    /// What is known of all.
    pub(super) book: Book,
}

impl Tale {
    /// How much there is, and when it comes back.
    pub(super) fn capacity(&self) -> Capacity {
        Capacity::of(self.limit, self.pool.limit.renewal)
    }

    /// Adds what another replica knows of the same pool.
    pub(super) fn add(&mut self, other: Self) {
        let capacity = self.capacity();
        if self.term < other.term {
            self.term = other.term;
        }
        if self.window < other.window {
            (self.window, self.book) = (other.window, other.book);
        } else if self.window == other.window {
            self.book.merge(&other.book, capacity);
        }
    }
}

impl Message {
    /// How much there is, and when it comes back.
    pub(super) fn capacity(&self) -> Capacity {
        Capacity::of(self.limit, self.pool.limit.renewal)
    }
}
