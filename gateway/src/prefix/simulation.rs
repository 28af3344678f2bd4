//! A simulated fleet: engines with real block caches, three kinds of traffic, and what each way of picking makes of them.
//!
//! Time is simulated and all randomness is seeded, so a run is the same everywhere. What differs between two rows of a
//! workload is the policy alone. Other seeds move the figures: of four, the worst imbalance of tokens was 1.69. Hashing the
//! first message suffers from all agents and all questions having the same one, as those of one application do.

mod engine;
mod fleet;
mod policy;

use testkit::traffic::{self, Workload};

use self::{
    fleet::{Report, run},
    policy::Policy,
};

/// How unevenly tokens may be spread: the engine with the most against the mean.
const IMBALANCE_MAX: f64 = 1.5;

/// Ours is better than policies that know nothing of caches in hits, in the time to the first token and in how long the
/// busiest engine reads, not far behind one that knows nothing else, and what it expected came about.
#[track_caller]
fn check(workload: &Workload) {
    let ours = run(workload, Policy::prefix_aware(workload.engines));
    println!("{:<12} {:<16} {ours}", workload.name, "prefix aware");
    let others = [
        ("round robin", Policy::RoundRobin(0)),
        ("least busy", Policy::least_busy()),
        ("first message", Policy::FirstMessage),
    ];
    let mut not_worse = Vec::new();
    for (name, policy) in others {
        let other = run(workload, policy);
        println!("{:<12} {name:<16} {other}", workload.name);
        if !is_better(&ours, &other) {
            not_worse.push(name);
        }
    }
    assert!(not_worse.is_empty(), "not better than {not_worse:?}");
    let stickiest = run(workload, Policy::stickiest(workload.engines));
    println!("{:<12} {:<16} {stickiest}", workload.name, "stickiest");
    // Who looks at nothing but the prompt hits more where that keeps the load even by luck, and waits where it does not.
    assert!(stickiest.hit_ratio < ours.hit_ratio + 0.03);
    assert!(ours.first_token_p99 < 1.1 * stickiest.first_token_p99);
    assert!(ours.busiest < 1.1 * stickiest.busiest);
    assert!(ours.token_imbalance <= IMBALANCE_MAX, "{ours}");
    let expected = ours.expected_ratio;
    assert!((0.5..2.0).contains(&expected), "{expected}");
}

fn is_better(ours: &Report, other: &Report) -> bool {
    other.hit_ratio < ours.hit_ratio
        && ours.first_token_p50 < other.first_token_p50
        && ours.first_token_p99 < other.first_token_p99
        && ours.busiest < other.busiest
}

#[test]
fn conversations_of_many_turns_stay_where_they_are_cached() {
    check(&traffic::conversations());
}

#[test]
fn agents_with_long_prompts_stay_where_they_are_cached() {
    check(&traffic::agents());
}

#[test]
fn questions_go_where_their_document_is_cached() {
    check(&traffic::documents());
}
