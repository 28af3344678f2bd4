//! A pool: one limit of one account, as one replica sees it: what it holds of it, and what it knows of the others.
//!
//! Everything here decides over values, without clock and network. A replica lowers what it may use whenever it wants;
//! only an owner raises it, in the answer to the replica's latest question. An answer to an older one is void, because
//! the replica has said since what it holds. So no message that is lost, doubled or late lets it use more than its
//! owner knows of.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    book::{Book, Part, Stamp},
    message::{Denial, Grant, Message, PoolId, Term, What},
};
use crate::limits::{Capacity, Left, Piece};

/// How long what was refused is refused again without asking, while others have requests in progress.
const REFUSED_FOR: Duration = Duration::from_millis(50);
/// Requests that a slice is for, at first.
const SLICE: u64 = 16;
/// Requests that a slice is for, at most.
const SLICE_MAX: u64 = 4096;
/// A slice that lasted no longer than this was too small.
const SLICE_LASTS: Duration = Duration::from_millis(200);

/// What was used and reserved before the pool was shared.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Begun {
    /// Used in the window.
    pub(crate) spent: u64,
    /// Reserved by requests in progress.
    pub(crate) reserved: u64,
}

/// Why a request gets nothing here and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The owner has to be asked.
    Short,
    /// There is not so much; when there may be.
    Wait(Duration),
}

/// One limit of one account.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Which one.
    pub(crate) id: PoolId,
    /// This replica's name.
    pub(super) me: String,
    /// One question to the owner at a time.
    pub(super) asking: Semaphore,
    /// As an owner, one question of others at a time.
    pub(super) deciding: Semaphore,
    state: Mutex<State>,
}

/// What a replica holds and knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) stamp: Stamp,
    pub(super) window: i64,
    spent: u64,
    reserved: u64,
    ceiling: u64,
    /// Whether the ceiling is for one request alone, which may be in progress: what it does not need is nobody's.
    is_lone: bool,
    /// The turn of the question under way.
    asked: Option<u64>,
    /// The newest term that was heard of.
    pub(super) promised: Term,
    pub(super) book: Book,
    /// The own term, and the list of replicas that it was begun with.
    pub(super) lead: Option<(Term, u64)>,
    refused: Option<Refused>,
    /// What may be used in all while nobody can be asked.
    cut_off: Option<u64>,
    was_used: bool,
    slice: u64,
    sliced_at: Timestamp,
}

/// What was refused.
#[derive(Debug, Clone, Copy)]
struct Refused {
    /// It is refused again until then.
    until: Timestamp,
    /// How much there was in all: another limit is asked for anew.
    limit: u64,
    missing: u64,
}

impl Pool {
    /// A pool that is shared from now on.
    pub(super) fn new(
        id: PoolId,
        (me, incarnation): (&str, u64),
        capacity: Capacity,
        begun: Begun,
        now: Timestamp,
    ) -> Self {
        let Begun { spent, reserved } = begun;
        let mut state = State {
            stamp: Stamp {
                incarnation,
                turn: 0,
            },
            window: capacity.window_number(now),
            spent,
            reserved,
            ceiling: spent.saturating_add(reserved),
            is_lone: false,
            asked: None,
            promised: Term::default(),
            book: Book::default(),
            lead: None,
            refused: None,
            cut_off: None,
            was_used: true,
            slice: SLICE,
            sliced_at: now,
        };
        state.state(me, capacity);
        Self {
            id,
            me: me.to_owned(),
            asking: Semaphore::new(1),
            deciding: Semaphore::new(1),
            state: Mutex::new(state),
        }
    }

    /// Looks at what is held and known, in whatever window it is.
    pub(super) fn peek<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock())
    }

    /// Goes on from a word of this replica's that is newer than all that it remembers, as from before its clock was set
    /// back.
    pub(super) fn overtake(&self, stamp: Stamp) {
        let mut state = self.state.lock();
        if state.stamp < stamp {
            state.stamp.incarnation = stamp.incarnation.saturating_add(1);
        }
    }

    /// Looks at what is held and known, in the window of now.
    pub(super) fn look<T>(
        &self,
        capacity: Capacity,
        now: Timestamp,
        work: impl FnOnce(&mut State) -> T,
    ) -> T {
        let mut state = self.state.lock();
        state.roll(&self.me, capacity, capacity.window_number(now));
        state.book.refill(capacity, now);
        work(&mut state)
    }

    /// Reserves an amount of what this replica holds.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(crate) fn reserve(
        &self,
        capacity: Capacity,
        amount: u64,
        now: Timestamp,
    ) -> Result<(Piece, Left), Refusal> {
        let mut state = self.state.lock();
        state.roll(&self.me, capacity, capacity.window_number(now));
        state.check(capacity, amount, now)?;
        state.reserved = state.reserved.saturating_add(amount);
        state.was_used = true;
        let used = state.spent.saturating_add(state.reserved);
        let known = state.book.others(&self.me) + u128::from(used);
        let left = state.book.allowed(capacity).saturating_sub(known);
        let missing = u128::from(capacity.limit()).saturating_sub(left);
        let left = Left {
            amount: u64::try_from(left).unwrap_or(u64::MAX),
            full_after: capacity.wait(missing as f64, now),
        };
        let window = state.window;
        Ok((Piece { amount, window }, left))
    }

    /// What all replicas have used, as far as it is known here.
    pub(crate) fn spent(&self, capacity: Capacity, now: Timestamp) -> u64 {
        self.look(capacity, now, |state| {
            // What this replica has said of itself may be older than what it knows.
            let said = u128::from(state.book.part(&self.me).spent);
            let others = state.book.spent().saturating_sub(said);
            u64::try_from(others.saturating_add(u128::from(state.spent))).unwrap_or(u64::MAX)
        })
    }

    /// Whether the owner must be asked before so much can be reserved.
    pub(super) fn is_short(&self, capacity: Capacity, amount: u64, now: Timestamp) -> bool {
        self.look(capacity, now, |state| state.check(capacity, amount, now)) == Err(Refusal::Short)
    }

    /// Puts what was used in the place of what was reserved.
    pub(crate) fn settle(&self, capacity: Capacity, piece: Piece, used: u64, now: Timestamp) {
        let mut state = self.state.lock();
        state.roll(&self.me, capacity, capacity.window_number(now));
        if piece.window != state.window {
            return;
        }
        state.reserved = state.reserved.saturating_sub(piece.amount);
        if !capacity.is_at_once() {
            state.spent = state.spent.saturating_add(used);
        }
        state.settled();
    }

    /// Gives back what was reserved.
    pub(crate) fn release(&self, piece: Piece) {
        let mut state = self.state.lock();
        if piece.window == state.window {
            state.reserved = state.reserved.saturating_sub(piece.amount);
            state.settled();
        }
    }

    /// The question for so much more, or the report of what is held; what is unused is given back with a report.
    pub(super) fn ask(&self, capacity: Capacity, amount: Option<u64>, now: Timestamp) -> Message {
        self.look(capacity, now, |state| {
            let used = state.spent.saturating_add(state.reserved);
            if amount.is_none() {
                state.give_back();
            }
            state.state(&self.me, capacity);
            state.asked = Some(state.stamp.turn);
            if amount.is_some() {
                let lasted = now.duration_since(state.sliced_at);
                state.slice = match lasted.unsigned_abs() < SLICE_LASTS {
                    true => (state.slice * 2).min(SLICE_MAX),
                    false => SLICE,
                };
                state.sliced_at = now;
            }
            Message {
                pool: self.id.clone(),
                limit: capacity.limit(),
                window: state.window,
                from: self.me.clone(),
                what: What::Ask {
                    part: state.book.part(&self.me),
                    least: amount.map_or(0, |amount| used.saturating_add(amount)),
                    wish: amount.map_or(0, |amount| amount.saturating_mul(state.slice)),
                },
            }
        })
    }

    /// Takes what was given.
    pub(super) fn granted(&self, capacity: Capacity, grant: &Grant, now: Timestamp) {
        self.look(capacity, now, |state| {
            // A question that was asked in another window, or overtaken by a recall, gets nothing any more.
            if state.asked != Some(grant.turn) || grant.term < state.promised {
                return;
            }
            state.asked = None;
            state.promised = grant.term.clone();
            state.book.merge(&grant.book, capacity);
            state.ceiling = state.ceiling.max(grant.ceiling);
            state.is_lone = grant.is_lone || state.is_lone && 0 < state.reserved;
            state.refused = None;
            state.cut_off = None;
        });
    }

    /// Takes that nothing was given.
    pub(super) fn refused(&self, capacity: Capacity, denial: &Denial, now: Timestamp) {
        self.look(capacity, now, |state| {
            if state.asked != Some(denial.turn) {
                return;
            }
            state.asked = None;
            state.book.merge(&denial.book, capacity);
            state.cut_off = None;
            let wait = capacity.wait(denial.missing as f64, now);
            let wait = match denial.is_spent {
                true => wait,
                false => wait.min(REFUSED_FOR),
            };
            state.refuse(capacity, denial.missing, wait, now);
        });
    }

    /// Nobody can be asked: some more may be used, and what is beyond is refused for a while.
    pub(super) fn cut_off(
        &self,
        capacity: Capacity,
        replicas: Option<usize>,
        amount: u64,
        now: Timestamp,
    ) {
        self.look(capacity, now, |state| {
            state.asked = None;
            if let Some(replicas) = replicas
                && state.cut_off.is_none()
            {
                let replicas = replicas.max(1) as u64;
                let known = state.book.others(&self.me) + u128::from(state.ceiling);
                let left = state.book.allowed(capacity).saturating_sub(known);
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                let share = state.ceiling.saturating_add(left / replicas);
                state.cut_off = Some(share.min(capacity.limit() / replicas));
            }
            if state.check(capacity, amount, now) == Err(Refusal::Short) {
                state.refuse(capacity, amount, REFUSED_FOR, now);
            }
        });
    }

    /// Whether something is held that nobody needs, or nobody could be asked; then the owner should hear of it.
    pub(super) fn should_report(&self, capacity: Capacity, now: Timestamp) -> bool {
        self.look(capacity, now, |state| {
            let was_used = std::mem::take(&mut state.was_used);
            let used = state.spent.saturating_add(state.reserved);
            let has_unused = used < state.ceiling;
            let has_more = state.book.part(&self.me).spent < state.spent;
            state.asked.is_none()
                && (state.cut_off.is_some() || !was_used && (has_unused || has_more))
        })
    }

    /// Whether nothing of it counts any more.
    pub(super) fn is_over(&self, capacity: Capacity, now: Timestamp) -> bool {
        let state = self.state.lock();
        state.window != capacity.window_number(now)
    }
}

impl State {
    /// Goes over to a later window.
    pub(super) fn roll(&mut self, me: &str, capacity: Capacity, window: i64) {
        if window <= self.window {
            return;
        }
        self.window = window;
        // What is in progress counts in the window that it was reserved in.
        (self.spent, self.reserved, self.ceiling) = (0, 0, 0);
        self.is_lone = false;
        self.lead = None;
        self.refused = None;
        self.cut_off = None;
        self.book.roll();
        self.state(me, capacity);
    }

    /// Says anew what is held; answers to older questions are void from now on.
    pub(super) fn state(&mut self, me: &str, capacity: Capacity) {
        let known = self.book.part(me).stamp;
        if self.stamp < known {
            self.stamp.incarnation = known.incarnation.saturating_add(1);
        }
        self.stamp.turn += 1;
        self.asked = None;
        let part = Part {
            stamp: self.stamp,
            spent: self.spent,
            reserved: self.reserved,
            ceiling: self.ceiling,
        };
        self.book.hear(me, part, capacity);
    }

    /// Gives back what is not used.
    pub(super) fn give_back(&mut self) {
        self.ceiling = self.spent.saturating_add(self.reserved);
    }

    fn settled(&mut self) {
        let used = self.spent.saturating_add(self.reserved);
        self.ceiling = match self.is_lone {
            // What such a request did not need may be more than there is.
            true => used,
            false => self.ceiling.max(used),
        };
        self.is_lone &= 0 < self.reserved;
    }

    fn refuse(&mut self, capacity: Capacity, missing: u64, wait: Duration, now: Timestamp) {
        let until = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        self.refused = Some(Refused {
            until,
            limit: capacity.limit(),
            missing,
        });
    }

    fn check(&self, capacity: Capacity, amount: u64, now: Timestamp) -> Result<(), Refusal> {
        let refused = self
            .refused
            .filter(|refused| now < refused.until && refused.limit == capacity.limit());
        let used = self.spent.saturating_add(self.reserved);
        let wanted = used.saturating_add(amount);
        let ceiling = self.ceiling.max(self.cut_off.unwrap_or(0));
        match refused {
            // Also what needs nothing is refused while there is nothing.
            Some(refused) if ceiling < wanted || amount == 0 => Err(Refusal::Wait(
                capacity.wait(refused.missing.max(1) as f64, now),
            )),
            _ if wanted <= ceiling => Ok(()),
            _ => Err(Refusal::Short),
        }
    }
}
