//! Traffic of three kinds for a fleet of engines: sessions of turns, seeded, so that it is the same everywhere.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::block_cache::BLOCK_TOKENS;

/// Bytes of a token.
const TOKEN_BYTES: usize = 4;

/// Traffic, and the fleet that has to bear it.
#[derive(Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// Replicas.
    pub engines: usize,
    /// Tokens that each replica caches.
    pub cache_tokens: usize,
    /// Who comes when.
    pub sessions: Vec<Session>,
}

/// One client that asks, waits for the answer, thinks, and asks again.
#[derive(Debug, Default)]
pub struct Session {
    /// Seconds after the beginning at which it asks first.
    pub begins_at: f64,
    /// What it asks.
    pub turns: Vec<Turn>,
    /// The whole conversation; each turn is a beginning of it.
    messages: Vec<Value>,
    prompt: Prompt,
}

/// One request.
#[derive(Debug)]
pub struct Turn {
    /// Tokens of the answer.
    pub answered_tokens: usize,
    /// Seconds that the client thinks before it asks.
    pub thinks: f64,
    messages: usize,
    blocks: usize,
}

impl Session {
    /// The request of a turn, as it is sent.
    pub fn body(&self, turn: &Turn) -> String {
        let messages = self.messages.get(..turn.messages).unwrap_or_default();
        json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true},
            "max_tokens": turn.answered_tokens, "messages": messages,
        })
        .to_string()
    }

    /// The engine's view of a turn: the hashes of its blocks.
    pub fn blocks(&self, turn: &Turn) -> &[u64] {
        self.prompt.blocks.get(..turn.blocks).unwrap_or_default()
    }

    /// The hash of the conversation's first message.
    pub fn first_message(&self) -> u64 {
        let first = self.messages.first().map(Value::to_string);
        FixedState::with_seed(1).hash_one(first)
    }

    fn say(&mut self, role: &str, content: &str) {
        self.messages
            .push(json!({"role": role, "content": content}));
        self.prompt.say(role, content);
    }

    /// The model calls a tool, and the tool answers.
    fn call(&mut self, thought: &str, result: &str) {
        let id = format!("call_{}", self.messages.len());
        let function = json!({"name": "read", "arguments": "{}"});
        let calls = json!([{"id": id, "type": "function", "function": function}]);
        self.messages
            .push(json!({"role": "assistant", "content": thought, "tool_calls": calls}));
        self.messages
            .push(json!({"role": "tool", "tool_call_id": id, "content": result}));
        self.prompt.say("assistant", thought);
        self.prompt.say("tool", result);
    }

    fn ask(&mut self, thinks: f64, answered_tokens: usize) {
        self.turns.push(Turn {
            answered_tokens,
            thinks,
            messages: self.messages.len(),
            blocks: self.prompt.blocks.len(),
        });
    }
}

/// What an engine makes of a conversation: the text of its template, cut into blocks.
#[derive(Debug, Default)]
pub struct Prompt {
    rendered: Vec<u8>,
    /// The hashes of the complete blocks, each over all before it.
    pub blocks: Vec<u64>,
}

impl Prompt {
    /// Adds a message.
    pub fn say(&mut self, role: &str, content: &str) {
        self.rendered
            .extend_from_slice(format!("<|{role}|>{content}<|end|>").as_bytes());
        let block_bytes = BLOCK_TOKENS * TOKEN_BYTES;
        let hashed = self.blocks.len() * block_bytes;
        for block in self.rendered[hashed..].chunks_exact(block_bytes) {
            let before = self.blocks.last().copied().unwrap_or_default();
            let mut hasher = FixedState::with_seed(before).build_hasher();
            hasher.write(block);
            self.blocks.push(hasher.finish());
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
pub fn conversations() -> Workload {
    let mut random = StdRng::seed_from_u64(1);
    let systems: Vec<String> = (0..5).map(|_| text(&mut random, 1500)).collect();
    let session = |at: usize| {
        let mut session = Session {
            begins_at: at as f64 * 0.16,
            ..Session::default()
        };
        session.say("system", &systems[popular(&mut random, systems.len())]);
        for _ in 0..random.random_range(3..9) {
            let question = random.random_range(50..600);
            session.say("user", &text(&mut random, question));
            let answer = random.random_range(100..500);
            session.ask(random.random_range(2.0..15.0), answer);
            session.say("assistant", &text(&mut random, answer));
        }
        session
    };
    Workload {
        name: "conversations",
        engines: 8,
        cache_tokens: 80_000,
        sessions: (0..350).map(session).collect(),
    }
}

/// Agents that work through a large context, step by step.
pub fn agents() -> Workload {
    let mut random = StdRng::seed_from_u64(2);
    let system = text(&mut random, 6_000);
    let session = |at: usize| {
        let mut session = Session {
            begins_at: at as f64 * 1.8,
            ..Session::default()
        };
        session.say("system", &system);
        let context = random.random_range(60_000..90_000);
        session.say("user", &text(&mut random, context));
        for _ in 0..random.random_range(6..12) {
            let answer = random.random_range(50..300);
            session.ask(random.random_range(0.5..4.0), answer);
            let thought = text(&mut random, answer);
            let result = random.random_range(500..4_000);
            session.call(&thought, &text(&mut random, result));
        }
        session
    };
    Workload {
        name: "agents",
        engines: 8,
        cache_tokens: 500_000,
        sessions: (0..32).map(session).collect(),
    }
}

/// Questions about documents, of which some are asked about often.
pub fn documents() -> Workload {
    let mut random = StdRng::seed_from_u64(3);
    let system = text(&mut random, 500);
    let documents: Vec<String> = (0..200)
        .map(|_| {
            let tokens = random.random_range(2_000..12_000);
            text(&mut random, tokens)
        })
        .collect();
    let session = |at: usize| {
        let mut session = Session::default();
        session.say("system", &system);
        let document = &documents[popular(&mut random, documents.len())];
        let question = text(&mut random, 60);
        session.say("user", &format!("{document}\n{question}"));
        session.begins_at = at as f64 * 0.08 + random.random_range(0.0..0.5);
        session.ask(0.0, random.random_range(50..200));
        session
    };
    Workload {
        name: "documents",
        engines: 8,
        cache_tokens: 250_000,
        sessions: (0..1000).map(session).collect(),
    }
}
