//! The owner of a pool: decides what a replica may use, from what is known of all.

use jiff::{SignedDuration, Timestamp};

use super::{
    book::{Book, Part},
    message::{Answer, Denial, Grant, Message, Tale, Term, What},
    pool::{Pool, State},
};
use crate::limits::Capacity;

/// The part of what is left that a slice is at most, beyond what is needed now.
const SLICE_SHARE: u64 = 20;
/// How far clocks of replicas may be apart: a window that begins later is not believed in.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(30);

/// What an owner does about a question.
#[derive(Debug)]
pub(super) enum Decision {
    /// It gives something, once a majority remembers it.
    Grant(Grant),
    /// It asks the others to give back what they do not use.
    Recall,
    /// There is not so much.
    Refuse(Denial),
    /// The question is older than what is known.
    Stale,
}

impl Pool {
    /// Takes a question in its order; whether it is to be answered.
    pub(super) fn admit(&self, message: &Message, part: Part, now: Timestamp) -> bool {
        let capacity = message.capacity();
        self.look(capacity, now, |state| {
            state.follow(&self.me, message, now)
                && (message.from == self.me || state.book.hear(&message.from, part, capacity))
        })
    }

    /// Decides about a question that was admitted.
    pub(super) fn decide(
        &self,
        message: &Message,
        (part, least, wish): (Part, u64, u64),
        has_recalled: bool,
        now: Timestamp,
    ) -> Decision {
        let capacity = message.capacity();
        let from = message.from.as_str();
        self.look(capacity, now, |state| {
            let Some((term, _)) = state.lead.clone() else {
                return Decision::Stale;
            };
            let is_current = state.book.part(from).stamp == part.stamp;
            if message.window != state.window || !is_current {
                return Decision::Stale;
            }
            if least == 0 {
                return Decision::Grant(grant(term, part, part.ceiling, &state.book));
            }
            if from != self.me {
                // What this replica holds itself is told at once.
                state.state(&self.me, capacity);
            }
            let fits = |state: &State| {
                let taken = state.book.others(from) + u128::from(least);
                state.book.allowed(capacity).checked_sub(taken)
            };
            if let Some(left) = fits(state) {
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                let extra = wish.min(left / SLICE_SHARE);
                let ceiling = least.saturating_add(extra);
                state.book.raise(from, ceiling);
                return Decision::Grant(grant(term, part, ceiling, &state.book));
            }
            if from != self.me {
                state.give_back();
                state.state(&self.me, capacity);
            }
            if fits(state).is_some() {
                state.book.raise(from, least);
                return Decision::Grant(grant(term, part, least, &state.book));
            }
            let may_give = |(name, part): (&str, &Part)| {
                name != from && name != self.me && part.spent < part.ceiling
            };
            if !has_recalled && state.book.parts().any(may_give) {
                return Decision::Recall;
            }
            last_resort(state, (from, part, least), (term, capacity))
        })
    }

    /// Answers what another replica says as an owner.
    pub(super) fn obey(&self, message: &Message, now: Timestamp) -> Answer {
        let capacity = message.capacity();
        self.look(capacity, now, |state| {
            if !state.follow(&self.me, message, now) {
                return Answer::Again;
            }
            let (What::Begin { term } | What::Recall { term } | What::Remember { term, .. }) =
                &message.what
            else {
                return Answer::Again;
            };
            if *term < state.promised {
                let term = state.promised.clone();
                return Answer::Fenced { term };
            }
            state.promise(term);
            if let What::Remember { book, .. } = &message.what {
                state.book.merge(book, capacity);
                return Answer::Remembered;
            }
            state.give_back();
            state.state(&self.me, capacity);
            Answer::Stated {
                name: self.me.clone(),
                book: state.book.clone(),
            }
        })
    }

    /// Begins a term of this replica's, which no other has begun.
    pub(super) fn begin(&self, capacity: Capacity, now: Timestamp) -> (Term, i64) {
        self.look(capacity, now, |state| {
            let term = Term {
                number: state.promised.number + 1,
                owner: self.me.clone(),
            };
            state.promise(&term);
            (term, state.window)
        })
    }

    /// Leads from now on, if no newer term has begun meanwhile, with the list of replicas of this number.
    pub(super) fn lead(&self, term: &Term, window: i64, list: u64) -> bool {
        self.peek(|state| {
            let leads = state.promised == *term && state.window == window;
            state.lead = leads.then(|| (term.clone(), list));
            leads
        })
    }

    /// The term of this replica, if it leads by the list of this number.
    pub(super) fn leads(&self, capacity: Capacity, list: u64, now: Timestamp) -> Option<Term> {
        self.look(capacity, now, |state| {
            let (term, led_with) = state.lead.clone()?;
            (led_with == list).then_some(term)
        })
    }

    /// Takes over what another replica knows.
    pub(super) fn learn(&self, capacity: Capacity, window: i64, book: &Book) {
        self.peek(|state| {
            if state.window == window {
                state.book.merge(book, capacity);
            }
        });
    }

    /// Listens to no older term than this one.
    pub(super) fn promise(&self, term: &Term) {
        self.peek(|state| state.promise(term));
    }

    /// What is known here.
    pub(super) fn tell(&self, capacity: Capacity) -> Tale {
        self.peek(|state| Tale {
            pool: self.id.clone(),
            limit: capacity.limit(),
            window: state.window,
            term: state.promised.clone(),
            book: state.book.clone(),
        })
    }

    /// Takes over what another replica knows.
    pub(super) fn hear_of(&self, tale: &Tale) {
        let capacity = tale.capacity();
        self.peek(|state| {
            state.promise(&tale.term);
            state.roll(&self.me, capacity, tale.window);
            if state.window == tale.window {
                state.book.merge(&tale.book, capacity);
            }
        });
    }

    /// What is known of all.
    pub(super) fn book(&self) -> Book {
        self.peek(|state| state.book.clone())
    }

    /// Forgets who is not among the replicas, where nothing of theirs can be in progress.
    pub(super) fn retain(&self, capacity: Capacity, is_there: impl Fn(&str) -> bool) {
        if capacity.is_at_once() {
            self.peek(|state| state.book.retain(is_there));
        }
    }
}

impl State {
    /// Goes along with a message's window; whether it is the one that is here then.
    fn follow(&mut self, me: &str, message: &Message, now: Timestamp) -> bool {
        let capacity = message.capacity();
        let latest = now.checked_add(SKEW_MAX).unwrap_or(now);
        if self.window < message.window && message.window <= capacity.window_number(latest) {
            self.roll(me, capacity, message.window);
        }
        self.window == message.window
    }

    fn promise(&mut self, term: &Term) {
        if self.promised < *term {
            self.promised = term.clone();
        }
        if self
            .lead
            .as_ref()
            .is_some_and(|(own, _)| *own < self.promised)
        {
            self.lead = None;
        }
    }
}

/// The last piece, for a request alone; or nothing.
fn last_resort(
    state: &mut State,
    (from, part, least): (&str, Part, u64),
    (term, capacity): (Term, Capacity),
) -> Decision {
    let allowed = state.book.allowed(capacity);
    let is_alone = state
        .book
        .parts()
        .all(|(name, other)| name == from || other.ceiling <= other.spent);
    let used = state.book.others(from) + u128::from(part.spent);
    if is_alone && part.reserved == 0 && used < allowed {
        state.book.raise(from, least);
        let grant = grant(term, part, least, &state.book);
        return Decision::Grant(Grant {
            is_lone: true,
            ..grant
        });
    }
    let taken = state.book.others(from) + u128::from(least);
    let missing = taken.saturating_sub(allowed);
    Decision::Refuse(Denial {
        turn: part.stamp.turn,
        missing: u64::try_from(missing).unwrap_or(u64::MAX),
        is_spent: allowed <= state.book.spent(),
        book: state.book.clone(),
    })
}

fn grant(term: Term, part: Part, ceiling: u64, book: &Book) -> Grant {
    Grant {
        term,
        turn: part.stamp.turn,
        ceiling,
        is_lone: false,
        book: book.clone(),
    }
}
