use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{Load, Picker};
use crate::prefix::{
    Answered, CHAT, Chain, Change, Medium, Prediction, Seat, Seed, chain, index::SEATS_MAX,
};

struct Fleet {
    picker: Picker,
    seats: Vec<Arc<Seat>>,
    random: StdRng,
}

impl Fleet {
    fn new(replicas: usize) -> Self {
        let picker = Picker::new(1 << 12);
        let seats = (0..replicas).map(|replica| picker.seat(&format!("r{replica}")).unwrap());
        Self {
            seats: seats.collect(),
            picker,
            random: StdRng::seed_from_u64(7),
        }
    }

    fn pick(&mut self, chain: &Chain) -> (usize, Prediction) {
        let load = |seat| Load {
            seat,
            in_flight: 0,
            is_usable: true,
            seconds: 0.0,
        };
        let loads: Vec<Load<'_>> = self.seats.iter().map(load).collect();
        self.picker
            .pick(chain.clone(), &loads, &mut self.random)
            .unwrap()
    }

    /// Picks and answers at once, so that nothing is in flight afterwards.
    fn answer(&mut self, chain: &Chain, cached_share: f64) -> (usize, f64) {
        let (picked, prediction) = self.pick(chain);
        let hit_ratio = prediction.hit_ratio();
        prediction.finish(answered(chain, cached_share));
        (picked, hit_ratio)
    }

    fn is_idle(&self) -> bool {
        let mut seats = self.seats.iter();
        seats.all(|seat| (seat.requests(), seat.load_tokens(), seat.queued_tokens()) == (0, 0, 0))
    }
}

fn prompt(name: &str) -> Chain {
    let body = json!({"messages": [{"role": "user", "content": name.repeat(4000)}]});
    chain(body.to_string().as_bytes(), CHAT, Seed::new("m", None, ""))
}

fn answered(chain: &Chain, cached_share: f64) -> Answered {
    let tokens = chain.bytes() as u64 / 4;
    Answered {
        prompt_tokens: Some(tokens),
        cached_tokens: Some((tokens as f64 * cached_share) as u64),
        first_token: Some(Duration::from_millis(100)),
        sent: None,
    }
}

#[test]
fn a_prompt_follows_its_beginning() {
    let mut fleet = Fleet::new(8);
    for name in ["a", "b", "c", "d"] {
        let (first, hit_ratio) = fleet.answer(&prompt(name), 0.0);
        assert_eq!(hit_ratio, 0.0);
        for _ in 0..10 {
            let (picked, hit_ratio) = fleet.answer(&prompt(name), 1.0);
            assert_eq!(picked, first);
            assert!(0.9 < hit_ratio);
        }
    }
    assert!(fleet.is_idle());
}

#[test]
fn a_pick_counts_before_it_is_answered_and_not_after_it_failed() {
    let mut fleet = Fleet::new(1);
    let (_, first) = fleet.pick(&prompt("a"));
    let (_, second) = fleet.pick(&prompt("a"));
    assert_eq!(first.hit_ratio(), 0.0);
    assert!(0.9 < second.hit_ratio());
    drop(second);
    let (_, third) = fleet.pick(&prompt("a"));
    assert!(
        0.9 < third.hit_ratio(),
        "the second pick took back what was the first one's"
    );
    drop(first);
    drop(third);
    let (_, fourth) = fleet.pick(&prompt("a"));
    assert_eq!(fourth.hit_ratio(), 0.0);
    drop(fourth);
    assert!(fleet.is_idle());
}

#[test]
fn an_answer_puts_back_what_a_failure_took() {
    let mut fleet = Fleet::new(1);
    let (_, first) = fleet.pick(&prompt("a"));
    let (_, second) = fleet.pick(&prompt("a"));
    drop(first);
    second.finish(answered(&prompt("a"), 1.0));
    assert!(0.9 < fleet.answer(&prompt("a"), 1.0).1);
}

#[test]
fn a_first_token_ends_the_waiting_and_not_the_load() {
    let mut fleet = Fleet::new(1);
    let (_, mut prediction) = fleet.pick(&prompt("a"));
    let seat = Arc::clone(&fleet.seats[0]);
    assert_eq!((seat.queued_tokens(), seat.load_tokens()), (1007, 1007));
    prediction.note_first_token();
    prediction.note_first_token();
    assert_eq!((seat.queued_tokens(), seat.load_tokens()), (0, 1007));
    drop(prediction);
    assert!(fleet.is_idle());
}

#[test]
fn a_replica_that_was_started_again_has_nothing() {
    let mut fleet = Fleet::new(1);
    fleet.answer(&prompt("a"), 0.0);
    let (_, old) = fleet.pick(&prompt("b"));
    fleet.picker.forget(&fleet.seats[0]);
    old.finish(answered(&prompt("b"), 0.0));
    for name in ["a", "b"] {
        let (_, prediction) = fleet.pick(&prompt(name));
        assert_eq!(prediction.hit_ratio(), 0.0);
    }
}

#[test]
fn a_replica_that_caches_less_than_it_should_loses_trust() {
    let mut fleet = Fleet::new(1);
    let hits: Vec<f64> = (0..100)
        .map(|_| fleet.answer(&prompt("a"), 0.25).1)
        .collect();
    assert!(0.9 < hits[1]);
    assert!((0.2..0.3).contains(&hits[99]), "{hits:?}");
}

#[test]
fn requests_of_others_count_as_usual_ones() {
    let fleet = Fleet::new(2);
    let mut random = StdRng::seed_from_u64(7);
    let loads = [7, 0].map(|in_flight| (in_flight, true));
    for _ in 0..20 {
        let loads: Vec<Load<'_>> = fleet
            .seats
            .iter()
            .zip(loads)
            .map(|(seat, (in_flight, is_usable))| Load {
                seat,
                in_flight,
                is_usable,
                seconds: 0.0,
            })
            .collect();
        let (picked, _) = fleet.picker.pick(prompt("a"), &loads, &mut random).unwrap();
        assert_eq!(picked, 1);
    }
    assert!(fleet.picker.pick(prompt("a"), &[], &mut random).is_none());
}

#[test]
fn seats_belong_to_names_and_are_free_when_nobody_holds_them() {
    let picker = Picker::new(64);
    let mut seats: Vec<_> = (0..SEATS_MAX)
        .map(|name| picker.seat(&name.to_string()).unwrap())
        .collect();
    assert!(picker.seat("more").is_none());
    assert!(Arc::ptr_eq(&picker.seat("5").unwrap(), &seats[5]));
    let freed = seats.remove(5);
    let (place, generation) = (freed.place(), freed.generation());
    drop(freed);
    let more = picker.seat("more").unwrap();
    assert_eq!(more.place(), place);
    assert!(generation < more.generation());
}

#[test]
fn what_an_engine_removed_is_expected_no_more() {
    let mut fleet = Fleet::new(1);
    let (prompt, sent) = (prompt("a"), Instant::now());
    let (_, prediction) = fleet.pick(&prompt);
    let blocks: Vec<u64> = (1..=prompt.bytes() as u64 / 4 / 16).collect();
    let seat = Arc::clone(&fleet.seats[0]);
    let stored = Change::Stored {
        blocks: blocks.clone(),
        parent: None,
        block_tokens: 16,
        medium: Medium::Device,
    };
    fleet.picker.note(&seat, &[stored], Instant::now());
    prediction.finish(Answered {
        sent: Some(sent),
        ..answered(&prompt, 0.0)
    });
    let (_, whole) = fleet.answer(&prompt, 1.0);
    // The end goes first, as engines have it.
    let removed = Change::Removed {
        blocks: blocks[blocks.len() / 2..].to_vec(),
        medium: Medium::Device,
    };
    fleet.picker.note(&seat, &[removed], Instant::now());
    let (_, prediction) = fleet.pick(&prompt);
    let left = prediction.hit_ratio() / whole;
    assert!((0.4..0.6).contains(&left), "{left}");
    drop(prediction);
    fleet.picker.note(&seat, &[Change::Cleared], Instant::now());
    assert_eq!(fleet.pick(&prompt).1.hit_ratio(), 0.0);
}
