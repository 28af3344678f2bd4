//! Traffic: sessions of turns, each a request body and what an engine makes of it.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::prefix::{CHAT, Chain, Seed, chain, simulation::engine::BLOCK_TOKENS};

/// Bytes of a token.
const TOKEN_BYTES: usize = 4;

/// Traffic, and the fleet that has to bear it.
#[derive(Debug)]
pub(super) struct Workload {
    /// Its name.
    pub(super) name: &'static str,
    /// Replicas.
    pub(super) engines: usize,
    /// Tokens that each replica caches.
    pub(super) cache_tokens: usize,
    /// Who comes when.
    pub(super) sessions: Vec<Session>,
}

/// One client that asks, waits for the answer, thinks, and asks again.
#[derive(Debug)]
pub(super) struct Session {
    /// When it asks first.
    pub(super) begins_at: f64,
    /// What it asks.
    pub(super) turns: Vec<Turn>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Turn {
    /// The gateway's view of the prompt.
    pub(super) chain: Chain,
    /// The engine's view: the hashes of its blocks.
    pub(super) blocks: Vec<u64>,
    /// The hash of the conversation's first message.
    pub(super) first_message: u64,
    /// Tokens of the answer.
    pub(super) answered_tokens: usize,
    /// Seconds that the client thinks before it asks.
    pub(super) thinks: f64,
}

/// A conversation as it grows.
#[derive(Debug, Default)]
struct Conversation {
    messages: Vec<Value>,
    rendered: Vec<u8>,
    blocks: Vec<u64>,
}

impl Conversation {
    fn say(&mut self, role: &str, content: &str) {
        self.messages
            .push(json!({"role": role, "content": content}));
        self.rendered
            .extend_from_slice(format!("<|{role}|>{content}<|end|>").as_bytes());
        let block_bytes = BLOCK_TOKENS * TOKEN_BYTES;
        let hashed = self.blocks.len() * block_bytes;
        for block in self.rendered[hashed..].chunks_exact(block_bytes) {
            let mut hasher =
                FixedState::with_seed(*self.blocks.last().unwrap_or(&0)).build_hasher();
            hasher.write(block);
            self.blocks.push(hasher.finish());
        }
    }

    fn ask(&self, thinks: f64, answered_tokens: usize) -> Turn {
        let body = json!({"model": "m", "stream": true, "messages": self.messages}).to_string();
        Turn {
            chain: chain(body.as_bytes(), CHAT, Seed::new("m", None, "")),
            blocks: self.blocks.clone(),
            first_message: FixedState::with_seed(1).hash_one(self.messages[0].to_string()),
            answered_tokens,
            thinks,
        }
    }
}

/// A text of so many tokens that shares nothing with any other.
fn text(random: &mut StdRng, tokens: usize) -> String {
    let words = tokens * TOKEN_BYTES / 16;
    (0..words)
        .map(|_| format!("{:015x}\n", random.random::<u64>() >> 4))
        .collect()
}

/// An index below `count`, the lower the likelier.
fn popular(random: &mut StdRng, count: usize) -> usize {
    let share: f64 = random.random();
    ((count as f64 + 1.0).powf(share) - 1.0) as usize
}

/// People who talk with five applications, two of which have most of the users.
pub(super) fn conversations() -> Workload {
    let mut random = StdRng::seed_from_u64(1);
    let systems: Vec<String> = (0..5).map(|_| text(&mut random, 1500)).collect();
    let session = |at: usize| {
        let mut conversation = Conversation::default();
        conversation.say("system", &systems[popular(&mut random, systems.len())]);
        let turns = (0..random.random_range(3..9)).map(|_| {
            let question = random.random_range(50..600);
            conversation.say("user", &text(&mut random, question));
            let answer = random.random_range(100..500);
            let turn = conversation.ask(random.random_range(2.0..15.0), answer);
            conversation.say("assistant", &text(&mut random, answer));
            turn
        });
        Session {
            turns: turns.collect(),
            begins_at: at as f64 * 0.16,
        }
    };
    Workload {
        name: "conversation",
        engines: 8,
        cache_tokens: 80_000,
        sessions: (0..350).map(session).collect(),
    }
}

/// Agents that work through a large context, step by step.
pub(super) fn agents() -> Workload {
    let mut random = StdRng::seed_from_u64(2);
    let system = text(&mut random, 6_000);
    let session = |at: usize| {
        let mut conversation = Conversation::default();
        conversation.say("system", &system);
        let context = random.random_range(60_000..90_000);
        conversation.say("user", &text(&mut random, context));
        let turns = (0..random.random_range(6..12)).map(|_| {
            let answer = random.random_range(50..300);
            let turn = conversation.ask(random.random_range(0.5..4.0), answer);
            conversation.say("assistant", &text(&mut random, answer));
            let result = random.random_range(500..4_000);
            conversation.say("tool", &text(&mut random, result));
            turn
        });
        Session {
            turns: turns.collect(),
            begins_at: at as f64 * 1.8,
        }
    };
    Workload {
        name: "agents",
        engines: 8,
        cache_tokens: 500_000,
        sessions: (0..32).map(session).collect(),
    }
}

/// Questions about documents, of which some are asked about often.
pub(super) fn documents() -> Workload {
    let mut random = StdRng::seed_from_u64(3);
    let system = text(&mut random, 500);
    let documents: Vec<String> = (0..200)
        .map(|_| {
            let tokens = random.random_range(2_000..12_000);
            text(&mut random, tokens)
        })
        .collect();
    let session = |at: usize| {
        let mut conversation = Conversation::default();
        conversation.say("system", &system);
        let document = &documents[popular(&mut random, documents.len())];
        let question = text(&mut random, 60);
        conversation.say("user", &format!("{document}\n{question}"));
        let begins_at = at as f64 * 0.08 + random.random_range(0.0..0.5);
        let answer = random.random_range(50..200);
        Session {
            turns: vec![conversation.ask(0.0, answer)],
            begins_at,
        }
    };
    Workload {
        name: "documents",
        engines: 8,
        cache_tokens: 250_000,
        sessions: (0..1000).map(session).collect(),
    }
}
