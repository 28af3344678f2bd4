//! How long a decision takes, from the body's bytes to the replica: for prompts of 100,000 tokens among 16 replicas.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::prefix::{Answered, CHAT, Chain, ENTRIES_DEFAULT, Load, Picker, Seat, Seed, chain};

/// Bytes of a body.
const BODY_BYTES: usize = 400_000;
/// Decisions of a kind.
const DECISIONS: usize = 2000;

/// An agent's conversation: a tool's output of a few kilobytes after every step, with quotes and line ends.
fn conversation(random: &mut StdRng, bytes: usize) -> Vec<Value> {
    let mut messages = vec![json!({"role": "system", "content": "You are an agent. ".repeat(200)})];
    let mut written = 4000;
    while written < bytes {
        let mut output = String::new();
        for _ in 0..80 {
            let (name, value): (u16, u64) = (random.random(), random.random());
            writeln!(
                output,
                "    let name_{name} = parse(\"{value:x}\").with_context(path)?;"
            )
            .unwrap();
        }
        written += output.len() + 600;
        let call = json!({"id": "c", "type": "function", "function": {"name": "read", "arguments": "{\"path\":\"src/a.rs\"}"}});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": "c", "content": output}));
    }
    messages
}

fn body(messages: &[Value]) -> Vec<u8> {
    json!({"model": "m", "messages": messages, "stream": true})
        .to_string()
        .into_bytes()
}

struct Measured {
    name: &'static str,
    hashing: Vec<Duration>,
    picking: Vec<Duration>,
}

impl Measured {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            hashing: Vec::new(),
            picking: Vec::new(),
        }
    }

    fn decide(&mut self, picker: &Picker, seats: &[Arc<Seat>], body: &[u8], random: &mut StdRng) {
        let load = |seat| Load {
            seat,
            in_flight: 0,
            is_usable: true,
            seconds: 0.0,
        };
        let loads: Vec<Load<'_>> = seats.iter().map(load).collect();
        let started = Instant::now();
        let chain: Chain = chain(body, CHAT, Seed::new("m", None, "tenant"));
        self.hashing.push(started.elapsed());
        let started = Instant::now();
        let (_, prediction) = picker.pick(chain, &loads, random).unwrap();
        self.picking.push(started.elapsed());
        prediction.finish(Answered::default());
    }

    fn print(self) {
        let total = self.hashing.iter().zip(&self.picking);
        let total: Vec<Duration> = total
            .map(|(hashing, picking)| *hashing + *picking)
            .collect();
        for (part, mut times) in [
            ("hashing", self.hashing),
            ("picking", self.picking),
            ("both", total),
        ] {
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            println!(
                "{:<9} {part:<8} p50 {:>9.1?}  p99 {:>9.1?}",
                self.name,
                at(50),
                at(99)
            );
        }
    }
}

/// `cargo test --release -p gateway --lib measurement -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, which says something only with --release on a quiet machine"]
fn a_decision_for_a_long_prompt() {
    let mut random = StdRng::seed_from_u64(1);
    let picker = Picker::new(ENTRIES_DEFAULT);
    let seats = (0..16).map(|replica| picker.seat(&replica.to_string()).unwrap());
    let seats: Vec<Arc<Seat>> = seats.collect();
    let bodies: Vec<Vec<u8>> = (0..40)
        .map(|_| body(&conversation(&mut random, BODY_BYTES)))
        .collect();
    println!("body of {} bytes", bodies[0].len());
    let mut unseen = Measured::new("unseen");
    for decision in 0..DECISIONS {
        let mut body = bodies[decision % bodies.len()].clone();
        // Another first byte of the first content: nothing after it is known.
        let content = body.windows(3).position(|window| window == b"You").unwrap();
        body[content..content + 3].copy_from_slice(format!("{:03x}", decision % 4096).as_bytes());
        unseen.decide(&picker, &seats, &body, &mut random);
    }
    unseen.print();
    let mut next_turn = Measured::new("next turn");
    for decision in 0..DECISIONS {
        next_turn.decide(
            &picker,
            &seats,
            &bodies[decision % bodies.len()],
            &mut random,
        );
    }
    next_turn.print();
}
