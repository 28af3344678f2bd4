//! The fleet: runs a workload against engines, event by event, and reports what its clients saw.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
    time::Duration,
};

use testkit::{block_cache::BLOCK_TOKENS, traffic::Workload};

use crate::prefix::{
    Answered, Prediction,
    simulation::{
        engine::{Engine, Served},
        policy::Policy,
    },
};

/// What a policy made of a workload.
#[derive(Debug)]
pub(super) struct Report {
    /// Share of all prompts' tokens that was cached.
    pub(super) hit_ratio: f64,
    /// Seconds to the first token that half of the requests stay under.
    pub(super) first_token_p50: f64,
    /// Seconds to the first token that 99 % of the requests stay under.
    pub(super) first_token_p99: f64,
    /// Tokens of the prompts that the engine with the most was sent, against the mean.
    pub(super) token_imbalance: f64,
    /// Seconds that the busiest engine read.
    pub(super) busiest: f64,
    /// Seconds that all engines read.
    pub(super) busy: f64,
    /// The time to the first token that was expected against the one that came, in the middle; 1 without expectations.
    pub(super) expected_ratio: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "hits {:5.1} %   first token p50 {:7.3} s, p99 {:7.3} s   max/mean tokens {:4.2}   read {:6.1} s, the busiest {:5.1} s   expected/came {:4.2}",
            self.hit_ratio * 100.0,
            self.first_token_p50,
            self.first_token_p99,
            self.token_imbalance,
            self.busy,
            self.busiest,
            self.expected_ratio
        )
    }
}

/// What happens to a turn of a session; ordered, so that events of one instant have an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asks,
    FirstToken,
    Ends,
}

/// A request in progress.
#[derive(Debug)]
struct Flight {
    engine: usize,
    asked_at: f64,
    served: Served,
    prediction: Option<Prediction>,
}

struct Run<'a> {
    workload: &'a Workload,
    policy: Policy,
    engines: Vec<Engine>,
    in_flight: Vec<usize>,
    flights: BTreeMap<(usize, usize), Flight>,
    events: BinaryHeap<Reverse<(u64, Event, usize, usize)>>,
    first_tokens: Vec<f64>,
    cached_tokens: usize,
    expected_ratios: Vec<f64>,
}

/// Runs a workload to its end.
pub(super) fn run(workload: &Workload, policy: Policy) -> Report {
    let engines = (0..workload.engines).map(|_| Engine::new(workload.cache_tokens));
    let mut run = Run {
        workload,
        policy,
        engines: engines.collect(),
        in_flight: vec![0; workload.engines],
        flights: BTreeMap::new(),
        events: BinaryHeap::new(),
        first_tokens: Vec::new(),
        cached_tokens: 0,
        expected_ratios: Vec::new(),
    };
    for (session, began) in workload.sessions.iter().enumerate() {
        run.at(began.begins_at, Event::Asks, session, 0);
    }
    while let Some(Reverse((nanos, event, session, turn))) = run.events.pop() {
        let now = Duration::from_nanos(nanos).as_secs_f64();
        match event {
            Event::Asks => run.ask(now, session, turn),
            Event::FirstToken => run.note_first_token(session, turn),
            Event::Ends => run.end(now, session, turn),
        }
    }
    run.report()
}

impl Run<'_> {
    fn at(&mut self, seconds: f64, event: Event, session: usize, turn: usize) {
        let nanos = Duration::from_secs_f64(seconds).as_nanos() as u64;
        self.events.push(Reverse((nanos, event, session, turn)));
    }

    fn ask(&mut self, now: f64, session: usize, turn: usize) {
        let asking = &self.workload.sessions[session];
        let asked = &asking.turns[turn];
        let (engine, prediction) = self.policy.pick(asking, asked, &self.in_flight);
        let blocks = asking.blocks(asked);
        let served = self.engines[engine].serve(now, blocks, asked.answered_tokens);
        let first_token = served.first_token_at - now;
        // Under that, what every request takes outweighs its reading.
        if let Some(prediction) = prediction.as_ref().filter(|_| 0.1 < first_token) {
            let expected = prediction.expected_first_token().as_secs_f64();
            self.expected_ratios.push(expected / first_token);
        }
        self.in_flight[engine] += 1;
        self.cached_tokens += served.cached_tokens;
        self.first_tokens.push(first_token);
        self.at(served.first_token_at, Event::FirstToken, session, turn);
        self.at(served.ends_at, Event::Ends, session, turn);
        let flight = Flight {
            engine,
            asked_at: now,
            served,
            prediction,
        };
        self.flights.insert((session, turn), flight);
    }

    fn note_first_token(&mut self, session: usize, turn: usize) {
        let flight = self.flights.get_mut(&(session, turn)).unwrap();
        if let Some(prediction) = &mut flight.prediction {
            prediction.note_first_token();
        }
    }

    fn end(&mut self, now: f64, session: usize, turn: usize) {
        let flight = self.flights.remove(&(session, turn)).unwrap();
        self.in_flight[flight.engine] -= 1;
        let ended = &self.workload.sessions[session];
        let turns = &ended.turns;
        if let Some(prediction) = flight.prediction {
            let first_token = flight.served.first_token_at - flight.asked_at;
            prediction.finish(Answered {
                prompt_tokens: Some((ended.blocks(&turns[turn]).len() * BLOCK_TOKENS) as u64),
                cached_tokens: Some(flight.served.cached_tokens as u64),
                first_token: Some(Duration::from_secs_f64(first_token)),
                sent: None,
            });
        }
        if let Some(next) = turns.get(turn + 1) {
            self.at(now + next.thinks, Event::Asks, session, turn + 1);
        }
    }

    fn report(mut self) -> Report {
        self.first_tokens.sort_by(f64::total_cmp);
        self.expected_ratios.sort_by(f64::total_cmp);
        let tokens: Vec<f64> = self
            .engines
            .iter()
            .map(|engine| engine.tokens as f64)
            .collect();
        let busy: Vec<f64> = self.engines.iter().map(|engine| engine.busy).collect();
        Report {
            hit_ratio: self.cached_tokens as f64 / tokens.iter().sum::<f64>(),
            first_token_p50: quantile(&self.first_tokens, 0.5),
            first_token_p99: quantile(&self.first_tokens, 0.99),
            token_imbalance: imbalance(&tokens),
            busiest: busy.iter().copied().fold(0.0, f64::max),
            busy: busy.iter().sum(),
            expected_ratio: quantile(&self.expected_ratios, 0.5),
        }
    }
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(1.0)
}

fn imbalance(shares: &[f64]) -> f64 {
    let most = shares.iter().copied().fold(0.0, f64::max);
    most * shares.len() as f64 / shares.iter().sum::<f64>()
}
