//! Prefix-aware picking: sends a request to the replica that has most of its prompt in its key-value cache.
//!
//! Engines keep the keys and values of prompts that they have read, so a replica that saw the beginning of a prompt
//! reads only the rest. What a replica holds we guess: we remember what we sent where. Four steps, one file each:
//! `chain` turns a prompt into hashes of its prefixes, `index` remembers which replicas saw which prefix, `depths` asks
//! it how far each replica knows a prompt, and `score` weighs that against the work that already waits there. The
//! `picker` puts them together and learns from every answer how right it was. Engines that say what they store and remove
//! are listened to: `residents` finds out which of our prefixes their blocks are.
//!
//! What it holds is a guess about somebody else's memory: losing an entry, or keeping one too long, costs time and never
//! correctness. That is why the index has no locks and forgets when it is full.

mod blocks;
mod chain;
mod depths;
mod index;
mod learned;
mod picker;
mod prediction;
mod residents;
mod score;
mod seat;

#[cfg(test)]
mod measurement;
#[cfg(test)]
mod simulation;

pub(crate) use self::{
    blocks::hash,
    chain::{CHAT, COMPLETION, Chain, MESSAGE, RESPONSE, Seed, chain},
    picker::{ENTRIES_DEFAULT, Load, Picker},
    prediction::{Answered, Prediction},
    residents::{Change, Medium},
    seat::Seat,
};
