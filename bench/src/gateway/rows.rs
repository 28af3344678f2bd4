//! The figures of all rounds as rows: first what we have promised, then everybody beside ours.

use std::collections::BTreeMap;

use crate::report::{Row, Target};

use super::{load::Seen, peers::Peer, script::Work};

/// The floor's name in the results.
const FLOOR: &str = "bare hyper";
const MEGABYTE: f64 = 1e6;
/// Characters of a fault in the table; the terminal had all of it.
const FAULT_CHARS_MAX: usize = 120;
const IDLE: &str = "resident memory, idle";
const OPEN: &str = "resident memory, 1,000 open streams";
const NOTHING: f64 = f64::NAN;

/// The best figures of one gateway over all rounds.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    cells: BTreeMap<Work, Seen>,
    /// Bytes.
    idle: f64,
    /// Bytes with all streams open.
    open: f64,
    /// What could not be measured and why.
    pub(super) faults: Vec<String>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            cells: BTreeMap::new(),
            idle: NOTHING,
            open: NOTHING,
            faults: Vec::new(),
        }
    }
}

impl Figures {
    /// Keeps what is better than before; `f64::min` and `f64::max` prefer a number to none.
    pub(super) fn add(&mut self, work: Work, seen: Seen) {
        let best = self.cells.entry(work).or_insert(seen);
        *best = Seen {
            rate: best.rate.max(seen.rate),
            cpu_micros: best.cpu_micros.min(seen.cpu_micros),
            p50_micros: best.p50_micros.min(seen.p50_micros),
            p99_micros: best.p99_micros.min(seen.p99_micros),
        };
    }

    pub(super) fn add_idle(&mut self, bytes: f64) {
        self.idle = self.idle.min(bytes);
    }

    pub(super) fn add_open(&mut self, bytes: f64) {
        self.open = self.open.min(bytes);
    }

    fn cell(&self, work: Work, figure: fn(&Seen) -> f64) -> f64 {
        self.cells.get(&work).map_or(NOTHING, figure)
    }

    fn cpu(&self, work: Work) -> f64 {
        self.cell(work, |seen| seen.cpu_micros)
    }
}

/// Everybody's figures.
#[derive(Debug, Default)]
pub(super) struct All {
    /// By name.
    pub(super) gateways: Vec<(String, Figures)>,
    /// The clients straight at the upstream.
    pub(super) direct: Option<Seen>,
}

impl All {
    /// What of ours could not be measured.
    pub(super) fn faults_of_ours(&self) -> Vec<String> {
        self.get("ours").faults
    }

    /// The figures of a gateway, empty at first.
    pub(super) fn of(&mut self, name: &str) -> &mut Figures {
        let known = self.gateways.iter().position(|(known, _)| known == name);
        let place = known.unwrap_or_else(|| {
            self.gateways.push((name.to_owned(), Figures::default()));
            self.gateways.len() - 1
        });
        &mut self.gateways[place].1
    }

    fn get(&self, name: &str) -> Figures {
        let mut gateways = self.gateways.iter();
        let found = gateways.find(|(known, _)| known == name);
        found
            .map(|(_, figures)| figures.clone())
            .unwrap_or_default()
    }

    /// The peer whose figure is the best: the lowest or the highest.
    fn best_peer(&self, is_lowest: bool, figure: impl Fn(&Figures) -> f64) -> (String, f64) {
        let peers = Peer::ALL.iter().map(|peer| peer.name());
        let figures = peers.map(|name| (name.to_owned(), figure(&self.get(name))));
        let measured = figures.filter(|(_, figure)| !figure.is_nan());
        let sign = if is_lowest { 1.0 } else { -1.0 };
        measured
            .min_by(|(_, one), (_, other)| (sign * one).total_cmp(&(sign * other)))
            .unwrap_or_else(|| ("no peer".to_owned(), NOTHING))
    }
}

/// All rows.
pub(super) fn rows(all: &All) -> Vec<Row> {
    let mut rows = promises(all);
    rows.extend(scale(all));
    for (name, _) in &all.gateways {
        if name != "ours" && !name.starts_with("ours,") {
            rows.extend(beside(all, name));
        }
    }
    if let Some(direct) = all.direct {
        let work = "the clients straight at the fake upstream, small chat";
        rows.push(Row::new(work, "req/s", direct.rate));
    }
    rows.extend(faults(all));
    // A part that was left out has no figures.
    rows.retain(Row::is_measured);
    rows
}

/// What could not be measured: our figure alone, and why.
fn faults(all: &All) -> Vec<Row> {
    let ours = all.get("ours").cpu(Work::Small);
    let mut rows = Vec::new();
    for (name, figures) in &all.gateways {
        for fault in &figures.faults {
            let fault: String = fault.chars().take(FAULT_CHARS_MAX).collect();
            let work = format!("small chat; not measured: {name}: {fault}");
            rows.push(Row::new(&work, "µs CPU", ours));
        }
    }
    rows
}

fn promises(all: &All) -> Vec<Row> {
    let (ours, floor) = (all.get("ours"), all.get(FLOOR));
    let cpu = |work: Work, words: &str, unit: &str| {
        let (peer, figure) = all.best_peer(true, |figures| figures.cpu(work));
        Row::new(&versus(words, &peer), unit, ours.cpu(work)).against(&peer, figure)
    };
    let against_floor = |work: Work, words: &str, unit: &str, bound: f64| {
        Row::new(&versus(words, FLOOR), unit, ours.cpu(work))
            .against(FLOOR, floor.cpu(work))
            .must_reach(Target::RatioAtMost(bound))
    };
    let rate = |figures: &Figures| figures.cell(Work::Small, |seen| seen.rate);
    let (fastest, highest) = all.best_peer(false, rate);
    let litellm = Peer::LiteLlm.name();
    let per_second = |figures: &Figures| 1e6 / figures.cpu(Work::Small);
    let (least_idle, idle) = all.best_peer(true, |figures| figures.idle);
    let (least_open, open) = all.best_peer(true, |figures| figures.open);
    let small = "small chat, concurrency 16";
    vec![
        cpu(Work::Small, small, "µs CPU/request").must_reach(Target::AtMost(55.0)),
        against_floor(Work::Small, small, "µs CPU/request", 2.0),
        Row::new(&versus(small, &fastest), "req/s", rate(&ours))
            .against(&fastest, highest)
            .must_reach(Target::RatioAtLeast(3.0)),
        cpu(Work::Large, "64 kB body", "µs CPU/request"),
        against_floor(Work::Large, "64 kB body", "µs CPU/request", 1.5),
        cpu(Work::Stream, "SSE, 35 events", "µs CPU/stream"),
        against_floor(Work::Stream, "SSE, 35 events", "µs CPU/stream", 1.0),
        Row::new(&versus(small, litellm), "req/s of CPU", per_second(&ours))
            .against(litellm, per_second(&all.get(litellm)))
            .must_reach(Target::RatioAtLeast(300.0)),
        Row::new(&versus(IDLE, &least_idle), "MB", ours.idle / MEGABYTE)
            .against(&least_idle, idle / MEGABYTE)
            .must_reach(Target::AtMost(30.0)),
        Row::new(&versus(OPEN, &least_open), "MB", ours.open / MEGABYTE)
            .against(&least_open, open / MEGABYTE)
            .must_reach(Target::AtMost(100.0)),
    ]
}

/// A work and who is beside ours: the table shows a peer's figure and not its name.
fn versus(work: &str, name: &str) -> String {
    format!("{work}; {name}")
}

/// Ours with many routes and keys, beside ours with one.
fn scale(all: &All) -> Vec<Row> {
    let one = all.get("ours").cpu(Work::Small);
    let many = all
        .gateways
        .iter()
        .filter(|(name, _)| name.starts_with("ours,"));
    many.map(|(name, figures)| {
        let work = format!("small chat, {name}");
        Row::new(&work, "µs CPU/request", figures.cpu(Work::Small)).against("ours, one", one)
    })
    .collect()
}

/// Every figure of a gateway beside ours.
fn beside(all: &All, name: &str) -> Vec<Row> {
    let (ours, theirs) = (all.get("ours"), all.get(name));
    let row = |work: &str, unit: &str, figure: &dyn Fn(&Figures) -> f64| {
        Row::new(&versus(work, name), unit, figure(&ours)).against(name, figure(&theirs))
    };
    let mut rows = Vec::new();
    let works = [
        (Work::Small, "small chat"),
        (Work::Large, "64 kB body"),
        (Work::Stream, "SSE, 35 events"),
        (Work::Paced, "SSE, 35 events, one a millisecond"),
    ];
    for (work, words) in works {
        rows.push(row(words, "µs CPU", &|figures| figures.cpu(work)));
        rows.push(row(words, "1/s", &|figures| {
            figures.cell(work, |seen| seen.rate)
        }));
        rows.push(row(words, "ms p50", &|figures| {
            figures.cell(work, |seen| seen.p50_micros) / 1e3
        }));
        rows.push(row(words, "ms p99", &|figures| {
            figures.cell(work, |seen| seen.p99_micros) / 1e3
        }));
    }
    rows.push(row(IDLE, "MB", &|figures| figures.idle / MEGABYTE));
    rows.push(row(OPEN, "MB", &|figures| figures.open / MEGABYTE));
    rows.retain(Row::has_peer);
    rows
}
