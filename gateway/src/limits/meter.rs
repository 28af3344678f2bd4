//! A meter: what is used and reserved of one limit by one caller.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::leases::{Begun, Pool, Refusal};

/// How much there is, and when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    limit: u64,
    renewal: Renewal,
}

/// The wait for what never comes back.
pub(super) const NEVER: Duration = Duration::MAX;

/// When what was used comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Renewal {
    /// Evenly, all of it within this time.
    Even(Duration),
    /// All at once, at the multiples of this time since 1970.
    Window(Duration),
    /// All at once, at the first of each month, UTC.
    Month,
    /// Never.
    Never,
    /// When requests end.
    None,
}

/// What a request holds of a limit. It counts in the window that it was reserved in, as its row in the ledger does: what is
/// in progress when a window ends takes nothing of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// How much.
    pub(crate) amount: u64,
    /// The number of the window.
    pub(crate) window: i64,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// How much.
    pub(crate) amount: u64,
    /// When all of it is back, if nothing more is used.
    pub(crate) full_after: Duration,
}

/// What there is not.
#[derive(Debug)]
pub(super) enum Missing {
    /// Enough of the limit, until it may be there.
    Until(Duration),
    /// Enough of what this replica holds of a shared limit; the others are to be asked.
    Slice(Arc<Pool>),
}

/// What one caller uses of one limit.
#[derive(Debug, Default)]
pub(super) struct Meter {
    own: Mutex<State>,
    /// What counts in its place since other replicas share the limit.
    shared: OnceLock<Arc<Pool>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    used: f64,
    reserved: u64,
    /// When `used` was right.
    at: Timestamp,
}

impl Default for State {
    fn default() -> Self {
        Self {
            used: 0.0,
            reserved: 0,
            at: Timestamp::UNIX_EPOCH,
        }
    }
}

impl Capacity {
    /// So many in this time, which come back evenly: after a pause all of them at once.
    pub(crate) const fn refill(limit: u64, time: Duration) -> Self {
        Self {
            limit,
            renewal: Renewal::Even(time),
        }
    }

    /// So many in each window; windows begin at the multiples of their length since 1970, UTC.
    pub(crate) const fn window(limit: u64, length: Duration) -> Self {
        Self {
            limit,
            renewal: Renewal::Window(length),
        }
    }

    /// So many in each calendar month, UTC.
    pub(crate) const fn month(limit: u64) -> Self {
        Self {
            limit,
            renewal: Renewal::Month,
        }
    }

    /// So many for ever.
    pub(crate) const fn once(limit: u64) -> Self {
        Self {
            limit,
            renewal: Renewal::Never,
        }
    }

    /// So many at once.
    pub(crate) const fn at_once(limit: u64) -> Self {
        Self {
            limit,
            renewal: Renewal::None,
        }
    }

    /// How much there is.
    pub(crate) const fn limit(self) -> u64 {
        self.limit
    }

    /// So much, which comes back so.
    pub(crate) const fn of(limit: u64, renewal: Renewal) -> Self {
        Self { limit, renewal }
    }

    /// Whether it comes back when requests end.
    pub(crate) const fn is_at_once(self) -> bool {
        matches!(self.renewal, Renewal::None)
    }

    /// Whether it comes back evenly.
    pub(crate) const fn is_rate(self) -> bool {
        matches!(self.renewal, Renewal::Even(_))
    }

    /// What comes back in a second, of what comes back evenly.
    pub(crate) fn per_second(self) -> Option<f64> {
        match self.renewal {
            Renewal::Even(time) => Some(self.limit as f64 / time.as_secs_f64()),
            Renewal::Window(_) | Renewal::Month | Renewal::Never | Renewal::None => None,
        }
    }

    /// A number of the window of this time, greater than those of windows before.
    pub(crate) fn window_number(self, now: Timestamp) -> i64 {
        match self.renewal {
            Renewal::Window(_) | Renewal::Month => {
                let start = self.window_start(now);
                start.map_or(0, Timestamp::as_millisecond)
            }
            Renewal::Even(_) | Renewal::Never | Renewal::None => 0,
        }
    }

    /// The time in words.
    pub(super) fn describe_window(self) -> String {
        match self.renewal {
            Renewal::Even(time) | Renewal::Window(time) => format!(" in {time:?}"),
            Renewal::Month => " in a month".to_owned(),
            Renewal::Never => " in all".to_owned(),
            Renewal::None => String::new(),
        }
    }

    /// When it comes back.
    pub(crate) const fn renewal(self) -> Renewal {
        self.renewal
    }

    /// When the window of this time began.
    pub(super) fn window_start(self, now: Timestamp) -> Option<Timestamp> {
        let length = match self.renewal {
            Renewal::Window(length) => length,
            Renewal::Month => return Some(month_start(now)?.timestamp()),
            Renewal::Never => return Some(Timestamp::UNIX_EPOCH),
            Renewal::Even(_) | Renewal::None => return None,
        };
        let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
        let start = now.as_millisecond().div_euclid(length) * length;
        Timestamp::from_millisecond(start).ok()
    }

    /// What is still used at `now` of what was used before.
    fn decay(self, state: &mut State, now: Timestamp) {
        let passed = seconds_between(state.at, now);
        match self.renewal {
            Renewal::Even(time) => {
                let back = self.limit as f64 * passed / time.as_secs_f64();
                state.used = (state.used - back).max(0.0);
            }
            Renewal::Never => {}
            Renewal::Window(_) | Renewal::Month => {
                if self.window_start(state.at) != self.window_start(now) {
                    (state.used, state.reserved) = (0.0, 0);
                }
            }
            Renewal::None => state.used = 0.0,
        }
        state.at = state.at.max(now);
    }

    /// When so much more is there than now.
    pub(crate) fn wait(self, missing: f64, now: Timestamp) -> Duration {
        match self.renewal {
            Renewal::Even(time) if 0 < self.limit => {
                let share = (missing / self.limit as f64).clamp(0.0, 1.0);
                time.mul_f64(share)
            }
            Renewal::Even(time) => time,
            Renewal::Window(length) => {
                let start = self.window_start(now).unwrap_or(now);
                let passed = Duration::from_secs_f64(seconds_between(start, now));
                length.saturating_sub(passed)
            }
            Renewal::Month => {
                let next = month_start(now).and_then(|start| start.checked_add(1.month()).ok());
                let next = next.map_or(now, |next| next.timestamp());
                Duration::from_secs_f64(seconds_between(now, next))
            }
            Renewal::Never => NEVER,
            Renewal::None => Duration::from_secs(1),
        }
    }
}

impl Meter {
    /// A meter of which so much is used at this time.
    pub(super) fn with(used: u64, at: Timestamp) -> Self {
        let state = State {
            used: used as f64,
            reserved: 0,
            at,
        };
        Self {
            own: Mutex::new(state),
            shared: OnceLock::new(),
        }
    }

    /// Shares the limit with other replicas from now on, if it is not yet.
    pub(super) fn share(
        &self,
        capacity: Capacity,
        now: Timestamp,
        open: impl FnOnce(Begun) -> Arc<Pool>,
    ) -> &Arc<Pool> {
        let mut state = self.own.lock();
        capacity.decay(&mut state, now);
        self.shared.get_or_init(|| {
            open(Begun {
                spent: state.used as u64,
                reserved: state.reserved,
            })
        })
    }

    /// Whether other replicas share the limit.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// Reserves an amount. A request alone may have the last piece of a limit, though it may need more.
    ///
    /// # Errors
    /// [`Missing`]
    pub(super) fn reserve(
        &self,
        capacity: Capacity,
        amount: u64,
        now: Timestamp,
    ) -> Result<(Piece, Left), Missing> {
        let mut state = self.own.lock();
        // Looked at under the lock: what is reserved here after it was shared would be forgotten.
        if let Some(pool) = self.shared.get() {
            drop(state);
            return pool
                .reserve(capacity, amount, now)
                .map_err(|refusal| match refusal {
                    Refusal::Wait(wait) => Missing::Until(wait),
                    Refusal::Short => Missing::Slice(Arc::clone(pool)),
                });
        }
        capacity.decay(&mut state, now);
        let limit = capacity.limit as f64;
        let wanted = state.used + state.reserved as f64 + amount as f64;
        let has_rest = state.reserved == 0 && state.used + 1.0 <= limit;
        if limit < wanted && !has_rest {
            return Err(Missing::Until(capacity.wait(wanted - limit, now)));
        }
        state.reserved = state.reserved.saturating_add(amount);
        let window = capacity.window_number(state.at);
        let left = Left {
            amount: (limit - wanted).max(0.0) as u64,
            full_after: capacity.wait(wanted, now),
        };
        Ok((Piece { amount, window }, left))
    }

    /// Puts what was used in the place of what was reserved.
    pub(super) fn settle(&self, capacity: Capacity, piece: Piece, used: u64, now: Timestamp) {
        let mut state = self.own.lock();
        if let Some(pool) = self.shared.get() {
            drop(state);
            pool.settle(capacity, piece, used, now);
            return;
        }
        capacity.decay(&mut state, now);
        if piece.window == capacity.window_number(state.at) {
            state.reserved = state.reserved.saturating_sub(piece.amount);
            state.used += used as f64;
        }
    }

    /// What is used in the window of now, by all replicas as far as it is known here.
    pub(super) fn spent(&self, capacity: Capacity, now: Timestamp) -> u64 {
        if let Some(pool) = self.shared.get() {
            return pool.spent(capacity, now);
        }
        let mut state = self.own.lock();
        capacity.decay(&mut state, now);
        state.used as u64
    }

    /// Gives back what was reserved.
    pub(super) fn release(&self, capacity: Capacity, piece: Piece) {
        let mut state = self.own.lock();
        if let Some(pool) = self.shared.get() {
            drop(state);
            pool.release(piece);
            return;
        }
        if piece.window == capacity.window_number(state.at) {
            state.reserved = state.reserved.saturating_sub(piece.amount);
        }
    }

    /// Whether nothing is reserved and nothing that is used counts any more; a limit that is shared counts elsewhere.
    pub(super) fn is_idle(&self, capacity: Capacity, now: Timestamp) -> bool {
        let mut state = self.own.lock();
        capacity.decay(&mut state, now);
        self.is_shared() || state.reserved == 0 && state.used < 1.0
    }
}

fn month_start(now: Timestamp) -> Option<Zoned> {
    let first = now.to_zoned(TimeZone::UTC).first_of_month().ok()?;
    first.start_of_day().ok()
}

fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    (later.duration_since(earlier).as_secs_f64()).max(0.0)
}
