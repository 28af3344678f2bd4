//! The figures of all rounds as rows: the best of each, beside what we have promised.

use crate::report::{Row, Target};

use super::{
    llama,
    rounds::{Rounds, Samples},
};

const SERVER: &str = "llama-server 0.6.0";
const BEST: &str = "llama.cpp 0.6.0, Q4_0";
const NOTHING: f64 = f64::NAN;

/// All rows that were measured.
pub(crate) fn rows(rounds: &Rounds) -> Vec<Row> {
    let mut rows = same_file(rounds);
    rows.extend(http(rounds));
    rows.extend(best_format(rounds));
    rows.extend(gemma(rounds));
    rows.extend(prefix_cache(rounds));
    rows.extend(bandwidth(rounds));
    rows.extend(server(rounds));
    // A part that was left out has no figures.
    rows.retain(Row::is_measured);
    rows
}

/// A speed in tokens a second, and how many times the peer's it must be.
fn speed(work: &str, samples: &Samples, peer: &str, bound: f64) -> Row {
    Row::new(work, "tok/s", highest(&samples.ours))
        .against(peer, highest(&samples.peer))
        .must_reach(Target::RatioAtLeast(bound))
}

fn same_file(rounds: &Rounds) -> Vec<Row> {
    let peer = llama::NAME;
    vec![
        speed("decode, 1 stream (tg128)", &rounds.decode, peer, 1.7),
        speed("prefill (pp512)", &rounds.prefill, peer, 3.5),
        speed("decode, 8 streams (128/128)", &rounds.streams, peer, 4.0),
    ]
}

fn http(rounds: &Rounds) -> [Row; 2] {
    let work = "HTTP, 8 streaming clients, against llama-server";
    let first_text = &rounds.http_first_text;
    [
        speed(work, &rounds.http_rate, SERVER, 4.0),
        Row::new(work, "ms TTFT p50", lowest(&first_text.ours) * 1e3)
            .against(SERVER, lowest(&first_text.peer) * 1e3)
            .must_reach(Target::RatioAtMost(0.25)),
    ]
}

fn best_format(rounds: &Rounds) -> Vec<Row> {
    let work = "against its best format (requantised Q4_0, repacked)";
    let decode = &rounds.best_decode;
    vec![
        speed(&format!("{work}: pp512"), &rounds.best_prefill, BEST, 2.0),
        speed(
            &format!("{work}: 8 streams"),
            &rounds.best_streams,
            BEST,
            2.5,
        ),
        Row::new(&format!("{work}: tg128"), "tok/s", highest(&decode.ours))
            .against(BEST, highest(&decode.peer)),
    ]
}

fn gemma(rounds: &Rounds) -> [Row; 2] {
    let (decode, prefill) = (&rounds.gemma_decode, &rounds.gemma_prefill);
    [
        speed("Gemma 3 270M Q4_K_M decode", decode, llama::NAME, 1.5),
        speed("Gemma 3 270M Q4_K_M prefill", prefill, llama::NAME, 2.0),
    ]
}

fn server(rounds: &Rounds) -> [Row; 2] {
    let start = &rounds.start;
    [
        Row::new(
            "process start to ready, page-cached file",
            "s",
            lowest(&start.ours),
        )
        .against(SERVER, lowest(&start.peer))
        .must_reach(Target::AtMost(0.5)),
        Row::new(
            "memory above the weights and the KV pool",
            "MB",
            lowest(&rounds.memory) / 1e6,
        )
        .must_reach(Target::AtMost(100.0)),
    ]
}

fn prefix_cache(rounds: &Rounds) -> [Row; 3] {
    let (hit, miss) = (lowest(&rounds.hit), lowest(&rounds.miss));
    [
        Row::new(
            "prefix-cache hit on a 2k-token prompt",
            "% of a miss's TTFT",
            100.0 * hit / miss,
        )
        .must_reach(Target::AtMost(5.0)),
        Row::new("2k-token prompt, prefix-cache miss", "ms TTFT", miss * 1e3),
        Row::new("2k-token prompt, prefix-cache hit", "ms TTFT", hit * 1e3),
    ]
}

fn bandwidth(rounds: &Rounds) -> [Row; 2] {
    let bandwidth = highest(&rounds.bandwidth);
    let share = |speeds: &[f64], bytes: &[f64]| 100.0 * highest(speeds) * lowest(bytes) / bandwidth;
    let (bytes, decode) = (&rounds.token_bytes, &rounds.decode);
    [
        Row::new(
            "share of the measured memory bandwidth at 1 stream",
            "%",
            share(&decode.ours, &bytes.ours),
        )
        .against(llama::NAME, share(&decode.peer, &bytes.peer))
        .must_reach(Target::AtLeast(60.0)),
        Row::new("memory bandwidth, reading", "GB/s", bandwidth / 1e9),
    ]
}

fn highest(figures: &[f64]) -> f64 {
    figures.iter().copied().reduce(f64::max).unwrap_or(NOTHING)
}

fn lowest(figures: &[f64]) -> f64 {
    figures.iter().copied().reduce(f64::min).unwrap_or(NOTHING)
}
