//! Leases: limits and budgets that several replicas of the gateway share, without a store beside them.
//!
//! Each limit of each account is a pool with an owner, the highest of the replicas by rendezvous hashing. Whoever has
//! used up its share asks the owner, which raises what that replica may use in all: one round trip for a slice, not for
//! a request. Near the end a slice is one request, and what others hold unused is recalled first. So the sum of what
//! replicas may use never passes the limit, but for a last request alone, which may need more than is left.
//!
//! Who owns a pool is agreed by terms: an owner asks what all know before it gives anything, and needs a majority that
//! listens to no older term from then on. What it gives is known to a majority before it is used, so that the next owner
//! finds it. A replica that dies keeps what it held: it counts as used until it comes back with its ledger.

mod book;
mod door;
mod driver;
mod fleet;
mod message;
mod owner;
mod pool;
mod wire;

pub(crate) use self::{
    door::{handle, owns},
    driver::keep,
    fleet::Fleet,
    message::{Answer, Letter, PoolId},
    pool::{Begun, Pool, Refusal},
    wire::Http,
};

#[cfg(test)]
mod tests;
