//! Many clients, each with one request after the other, and the count of what came of them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::{
    clients,
    report::{Row, Target, say},
};

use super::{
    checks::{Outcome, send},
    requests::{Kind, draw},
};

/// How long a refused client waits: less than it is told, so that the queue stays full.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Faults that are shown; all are counted.
const SHOWN_MAX: u64 = 20;

/// What came of all requests.
#[derive(Debug, Default)]
pub(super) struct Counts {
    answered: BTreeMap<Kind, u64>,
    refused: u64,
    cut: u64,
    faults: u64,
}

impl Counts {
    /// One row for each outcome.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .answered
            .iter()
            .map(|(kind, count)| {
                let work = format!("ended as they should: {}", kind.name());
                Row::new(&work, "requests", *count as f64)
            })
            .collect();
        rows.extend([
            Row::new(
                "refused in protocol, full queue",
                "requests",
                self.refused as f64,
            ),
            Row::new(
                "ended by the length limit inside a schema",
                "requests",
                self.cut as f64,
            ),
            Row::new(
                "neither answered nor refused in protocol",
                "requests",
                self.faults as f64,
            )
            .must_reach(Target::AtMost(0.0)),
        ]);
        rows
    }

    fn note(&mut self, kind: Kind, outcome: Outcome) {
        match outcome {
            Outcome::AsExpected => *self.answered.entry(kind).or_insert(0) += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::CutInSchema => self.cut += 1,
            Outcome::Fault(what) => {
                self.faults += 1;
                if self.faults <= SHOWN_MAX {
                    say(&format!("  fault, {}: {what}", kind.name()));
                }
            }
        }
    }
}

/// Loads the server for a while.
pub(super) async fn run(
    port: u16,
    clients: usize,
    seed: u64,
    duration: Duration,
) -> Result<Counts> {
    let client = clients::client()?;
    let end = Instant::now() + duration;
    let counts = Arc::new(Mutex::new(Counts::default()));
    let mut workers = JoinSet::new();
    for number in 0..clients as u64 {
        let (client, counts) = (client.clone(), Arc::clone(&counts));
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
        workers.spawn(async move {
            while Instant::now() < end {
                let request = draw(&mut random);
                let outcome = send(&client, port, &request).await;
                let is_refused = outcome == Outcome::Refused;
                counts.lock().note(request.kind, outcome);
                if is_refused {
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("waiting for a client")?;
    }
    Ok(std::mem::take(&mut *counts.lock()))
}
