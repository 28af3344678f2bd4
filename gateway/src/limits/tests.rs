//! What limits give and take back.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use protocol::snapshot::{Budget, Limit, Mode, Per, Rate};

use super::{
    Need, Reached, Registry, Reservation, Resource, Rule,
    meter::{Capacity, Meter},
    reserve, rules,
};
use crate::{
    authorize::{Caller, Unauthorized},
    cost::Cost,
};

const HOUR: Duration = Duration::from_secs(3600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[test]
fn what_is_used_comes_back_evenly() {
    let capacity = Capacity::refill(10, Duration::from_secs(100));
    let meter = Meter::default();
    for _ in 0..10 {
        meter.reserve(capacity, 1, at(0)).unwrap();
        meter.settle(capacity, 1, 1, at(0));
    }
    let refused = meter.reserve(capacity, 1, at(0));
    assert_eq!(refused, Err(Duration::from_secs(10)));
    assert!(meter.reserve(capacity, 1, at(9)).is_err());
    assert!(meter.reserve(capacity, 1, at(10)).is_ok());
}

#[test]
fn a_window_gives_all_of_it_at_once_at_its_beginning() {
    let capacity = Capacity::window(10, HOUR);
    let start = capacity.window_start(at(0)).unwrap();
    let after = |seconds: i64| Timestamp::from_second(start.as_second() + seconds).unwrap();
    let meter = Meter::with(9, after(60));
    meter.reserve(capacity, 1, after(600)).unwrap();
    meter.settle(capacity, 1, 1, after(601));
    let refused = meter.reserve(capacity, 1, after(1800));
    assert_eq!(refused, Err(Duration::from_secs(1800)));
    assert_eq!(meter.reserve(capacity, 8, after(3600)).unwrap().amount, 2);
    assert!(meter.reserve(capacity, 3, after(3601)).is_err());
}

#[test]
fn what_runs_beside_each_other_cannot_go_over_together() {
    let capacity = Capacity::window(100, HOUR);
    let meter = Meter::default();
    let admitted = (0..64).filter(|_| meter.reserve(capacity, 30, at(0)).is_ok());
    assert_eq!(admitted.count(), 3);
    meter.release(30);
    assert!(meter.reserve(capacity, 30, at(0)).is_ok());
    for _ in 0..3 {
        meter.settle(capacity, 30, 30, at(0));
    }
    // The rest is less than a request may need: one alone may have it, a second one beside it may not.
    assert!(meter.reserve(capacity, 30, at(0)).is_ok());
    assert!(meter.reserve(capacity, 1, at(0)).is_err());
    meter.settle(capacity, 30, 30, at(0));
    assert!(meter.reserve(capacity, 0, at(0)).is_err());
}

#[test]
fn a_request_that_may_need_anything_gets_no_more_than_one_that_needs_much() {
    let capacity = Capacity::window(100, HOUR);
    let meter = Meter::default();
    meter.reserve(capacity, u64::MAX, at(0)).unwrap();
    assert!(meter.reserve(capacity, u64::MAX, at(0)).is_err());
    assert!(meter.reserve(capacity, 1, at(0)).is_err());
    meter.settle(capacity, u64::MAX, 99, at(0));
    assert!(meter.reserve(capacity, 1, at(0)).is_ok());
}

#[test]
fn nothing_is_no_limit_to_share() {
    for capacity in [
        Capacity::refill(0, HOUR),
        Capacity::window(0, HOUR),
        Capacity::at_once(0),
    ] {
        assert!(Meter::default().reserve(capacity, 1, at(0)).is_err());
    }
}

fn limit(name: &str, per: Per, mode: Mode) -> Limit {
    Limit {
        name: name.to_owned(),
        per,
        requests: None,
        tokens: None,
        concurrency: None,
        mode,
    }
}

const NEED: Need = Need {
    tokens: 100,
    cost: Cost::from_nanos(7),
};

fn take(rules: &[Rule]) -> Result<Reservation, Reached> {
    let caller = Caller::Nobody(Unauthorized::Missing);
    reserve(rules, &caller, NEED, at(0), |_| {})
}

#[test]
fn a_limit_that_refuses_gives_back_what_others_had_reserved() {
    let registry = Registry::default();
    let first = Limit {
        concurrency: Some(2),
        ..limit("at-once", Per::Route, Mode::Enforce)
    };
    let second = Limit {
        tokens: Some(Rate {
            limit: 150,
            window_millis: 1000,
        }),
        ..limit("tokens", Per::Route, Mode::Enforce)
    };
    let both = rules("r", &[first.clone(), second], &[], &registry);
    let held = take(&both).unwrap();
    assert_eq!(held.headers()["x-ratelimit-limit-tokens"], "150");
    assert_eq!(held.headers()["x-ratelimit-remaining-tokens"], "50");
    let reached = take(&both).unwrap_err();
    assert_eq!(reached.resource, Resource::Tokens);
    // Another table of the same limits goes on where this one is.
    let again = rules("r", &[first], &[], &registry);
    let other = take(&again).unwrap();
    assert_eq!(take(&again).unwrap_err().resource, Resource::Concurrency);
    drop((held, other));
    assert!(take(&both).is_ok());
}

#[test]
fn a_limit_that_only_watches_refuses_nobody() {
    let registry = Registry::default();
    let watching = Limit {
        concurrency: Some(1),
        ..limit("watch", Per::Route, Mode::Shadow)
    };
    let rules = rules("r", &[watching], &[], &registry);
    let caller = Caller::Nobody(Unauthorized::Missing);
    let mut over = Vec::new();
    let held: Vec<Reservation> = (0..3)
        .map(|_| {
            reserve(&rules, &caller, NEED, at(0), |reached| {
                over.push(reached.to_string());
            })
        })
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(held.len(), 3);
    let told = "The limit `watch` of this route is reached: 1 requests at once.";
    assert_eq!(over, [told, told]);
}

#[test]
fn a_budget_begins_with_what_was_spent() {
    let registry = Registry::new(Box::new(|route, per, _| {
        assert_eq!((route, per), ("r", Per::Key));
        HashMap::from([(String::new(), 95)])
    }));
    let budget = Budget {
        name: "daily".to_owned(),
        per: Per::Key,
        amount_nanos: 100,
        window_millis: 86_400_000,
        mode: Mode::Enforce,
    };
    let rules = rules("r", &[], &[budget], &registry);
    let caller = Caller::Nobody(Unauthorized::Missing);
    let now = Timestamp::now();
    let mut alone = reserve(&rules, &caller, NEED, now, |_| {}).unwrap();
    alone.settle(NEED, now);
    let reached = reserve(&rules, &caller, NEED, now, |_| {}).unwrap_err();
    let fault = reached.fault();
    assert!(
        fault.message.contains("0.0000001 US dollars in 86400s"),
        "{}",
        fault.message
    );
    assert!(fault.retry_after.is_some_and(|seconds| seconds <= 86_400));
}
