//! The figures as rows: ours beside each peer, for each kind of traffic.

use anyhow::{Context, Result};

use crate::{
    process::Server,
    report::{Row, Target},
};

use super::driver::{Decisions, Seen};

/// The metric of the gateway that tells how long decisions take.
const DECISIONS: &str = "gateway_prefix_decision_seconds";

/// What one gateway made of one kind of traffic.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) work: &'static str,
    pub(super) name: &'static str,
    pub(super) is_ours: bool,
    pub(super) seen: Seen,
}

/// All rows.
pub(super) fn rows(figures: &[Figures]) -> Vec<Row> {
    let mut rows = Vec::new();
    for ours in figures.iter().filter(|figures| figures.is_ours) {
        let peers = figures
            .iter()
            .filter(|peer| !peer.is_ours && peer.work == ours.work);
        for peer in peers {
            rows.extend(beside(ours, peer));
        }
        if let Some(decisions) = ours.seen.decisions {
            rows.extend(decided(ours.work, decisions));
        }
    }
    rows
}

fn beside(ours: &Figures, peer: &Figures) -> [Row; 5] {
    let plain = |words: &str, unit: &str, figure: fn(&Seen) -> f64| {
        let work = format!("{}, {words}; {}", ours.work, peer.name);
        Row::new(&work, unit, figure(&ours.seen)).against(peer.name, figure(&peer.seen))
    };
    let row = |words: &str, unit: &str, figure: fn(&Seen) -> f64, target: Target| {
        plain(words, unit, figure).must_reach(target)
    };
    let (least, most) = (Target::RatioAtLeast(1.0), Target::RatioAtMost(1.0));
    [
        row("hits", "%", |seen| seen.hit_ratio * 100.0, least),
        row("first token p50", "s", |seen| seen.first_token_p50, most),
        row("first token p99", "s", |seen| seen.first_token_p99, most),
        row(
            "reading of the busiest engine",
            "s",
            |seen| seen.busiest,
            most,
        ),
        plain("the same against the mean", "x", |seen| seen.imbalance),
    ]
}

fn decided(work: &str, decisions: Decisions) -> [Row; 2] {
    let Decisions {
        p99_micros,
        mean_seconds,
    } = decisions;
    let p99 = Row::new(
        &format!("{work}, prefix decision p99, at most"),
        "µs",
        p99_micros,
    );
    let cost = Row::new(
        &format!("{work}, prefix decision"),
        "core per req/s",
        mean_seconds,
    );
    [
        p99.must_reach(Target::AtMost(100.0)),
        cost.must_reach(Target::AtMost(0.02)),
    ]
}

/// How long a gateway's decisions took, by its own metric.
pub(super) fn decisions(server: &Server) -> Result<Decisions> {
    let (_, text) = server.get("/metrics").context("reading the metrics")?;
    read(&text).with_context(|| format!("the gateway has no metric {DECISIONS}"))
}

fn read(text: &str) -> Option<Decisions> {
    let sample = |suffix: &str| {
        let prefix = format!("{DECISIONS}_{suffix}{{");
        let mut lines = text.lines().filter(move |line| line.starts_with(&prefix));
        lines.next()?.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    let (count, sum) = (sample("count")?, sample("sum")?);
    let prefix = format!("{DECISIONS}_bucket{{");
    let buckets = text.lines().filter(|line| line.starts_with(&prefix));
    let mut buckets = buckets.filter_map(|line| {
        let (labels, seen) = line.rsplit_once(' ')?;
        let bound = labels.split_once("le=\"")?.1.split_once('"')?.0;
        Some((
            bound.parse::<f64>().unwrap_or(f64::INFINITY),
            seen.parse::<f64>().ok()?,
        ))
    });
    let (bound, _) = buckets.find(|(_, seen)| count * 0.99 <= *seen)?;
    Some(Decisions {
        p99_micros: bound * 1e6,
        mean_seconds: sum / count,
    })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_histogram_tells_its_mean_and_its_99th_percentile() {
        let text = "\
gateway_prefix_decision_seconds_sum{route=\"a/b\"} 0.02
gateway_prefix_decision_seconds_count{route=\"a/b\"} 200
gateway_prefix_decision_seconds_bucket{le=\"0.00005\",route=\"a/b\"} 197
gateway_prefix_decision_seconds_bucket{le=\"0.0001\",route=\"a/b\"} 198
gateway_prefix_decision_seconds_bucket{le=\"+Inf\",route=\"a/b\"} 200
";
        let decisions = read(text).unwrap();
        assert_eq!(
            (decisions.p99_micros, decisions.mean_seconds),
            (100.0, 0.0001)
        );
        assert!(read("").is_none());
    }
}
