//! What limits give and take back.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use protocol::{
    allowance::{self, Allowance, Dollars, Window},
    snapshot::{Budget, Limit, Mode, Per, Rate},
};

use super::{
    Asker, InvalidRules, Need, Reached, Refused, Registry, Reservation, Resource, Rule, Scope,
    allowed,
    meter::{Capacity, Left, Meter, Missing, NEVER, Piece},
    rules,
};
use crate::{cost::Cost, people::Kind};

const HOUR: Duration = Duration::from_secs(3600);

/// Reserves of a limit that no other replica shares.
fn reserve(
    meter: &Meter,
    capacity: Capacity,
    amount: u64,
    now: Timestamp,
) -> Result<Left, Duration> {
    let reserved = meter.reserve(capacity, amount, now);
    reserved
        .map(|(_, left)| left)
        .map_err(|missing| match missing {
            Missing::Until(wait) => wait,
            Missing::Slice(pool) => panic!("{pool:?} is shared"),
        })
}

/// What was reserved at a time.
fn piece(capacity: Capacity, amount: u64, then: Timestamp) -> Piece {
    let window = capacity.window_number(then);
    Piece { amount, window }
}

fn reached(refused: Refused) -> Reached {
    match refused {
        Refused::Reached(reached) => reached,
        Refused::Short(shortage) => panic!("{shortage:?}"),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[test]
fn what_is_used_comes_back_evenly() {
    let capacity = Capacity::refill(10, Duration::from_secs(100));
    let meter = Meter::default();
    for _ in 0..10 {
        reserve(&meter, capacity, 1, at(0)).unwrap();
        meter.settle(capacity, piece(capacity, 1, at(0)), 1, at(0));
    }
    let refused = reserve(&meter, capacity, 1, at(0));
    assert_eq!(refused, Err(Duration::from_secs(10)));
    assert!(reserve(&meter, capacity, 1, at(9)).is_err());
    assert!(reserve(&meter, capacity, 1, at(10)).is_ok());
}

#[test]
fn a_window_gives_all_of_it_at_once_at_its_beginning() {
    let capacity = Capacity::window(10, HOUR);
    let start = capacity.window_start(at(0)).unwrap();
    let after = |seconds: i64| Timestamp::from_second(start.as_second() + seconds).unwrap();
    let meter = Meter::with(9, after(60));
    reserve(&meter, capacity, 1, after(600)).unwrap();
    meter.settle(capacity, piece(capacity, 1, after(601)), 1, after(601));
    let refused = reserve(&meter, capacity, 1, after(1800));
    assert_eq!(refused, Err(Duration::from_secs(1800)));
    assert_eq!(reserve(&meter, capacity, 8, after(3600)).unwrap().amount, 2);
    assert!(reserve(&meter, capacity, 3, after(3601)).is_err());
}

#[test]
fn what_is_in_progress_when_a_window_ends_counts_where_it_began() {
    let capacity = Capacity::window(10, HOUR);
    let start = capacity.window_start(at(0)).unwrap();
    let after = |seconds: i64| Timestamp::from_second(start.as_second() + seconds).unwrap();
    let meter = Meter::default();
    reserve(&meter, capacity, 4, after(3599)).unwrap();
    reserve(&meter, capacity, 6, after(3599)).unwrap();
    assert_eq!(reserve(&meter, capacity, 7, after(3600)).unwrap().amount, 3);
    meter.settle(capacity, piece(capacity, 4, after(3599)), 4, after(3601));
    meter.release(capacity, piece(capacity, 6, after(3599)));
    assert_eq!(reserve(&meter, capacity, 3, after(3602)).unwrap().amount, 0);
    assert!(reserve(&meter, capacity, 1, after(3603)).is_err());
}

#[test]
fn what_runs_beside_each_other_cannot_go_over_together() {
    let capacity = Capacity::window(100, HOUR);
    let meter = Meter::default();
    let admitted = (0..64).filter(|_| reserve(&meter, capacity, 30, at(0)).is_ok());
    assert_eq!(admitted.count(), 3);
    meter.release(capacity, piece(capacity, 30, at(0)));
    assert!(reserve(&meter, capacity, 30, at(0)).is_ok());
    for _ in 0..3 {
        meter.settle(capacity, piece(capacity, 30, at(0)), 30, at(0));
    }
    // The rest is less than a request may need: one alone may have it, a second one beside it may not.
    assert!(reserve(&meter, capacity, 30, at(0)).is_ok());
    assert!(reserve(&meter, capacity, 1, at(0)).is_err());
    meter.settle(capacity, piece(capacity, 30, at(0)), 30, at(0));
    assert!(reserve(&meter, capacity, 0, at(0)).is_err());
}

#[test]
fn a_request_that_may_need_anything_gets_no_more_than_one_that_needs_much() {
    let capacity = Capacity::window(100, HOUR);
    let meter = Meter::default();
    reserve(&meter, capacity, u64::MAX, at(0)).unwrap();
    assert!(reserve(&meter, capacity, u64::MAX, at(0)).is_err());
    assert!(reserve(&meter, capacity, 1, at(0)).is_err());
    meter.settle(capacity, piece(capacity, u64::MAX, at(0)), 99, at(0));
    assert!(reserve(&meter, capacity, 1, at(0)).is_ok());
}

#[test]
fn nothing_is_no_limit_to_share() {
    for capacity in [
        Capacity::refill(0, HOUR),
        Capacity::window(0, HOUR),
        Capacity::at_once(0),
    ] {
        assert!(reserve(&Meter::default(), capacity, 1, at(0)).is_err());
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
    let mut reservation = Reservation::default();
    let taken = reservation.take(rules, &Asker::default(), NEED, at(0), &mut |_| {});
    taken.map_err(reached)?;
    Ok(reservation)
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
    let mut over = Vec::new();
    let mut held = Reservation::default();
    for _ in 0..3 {
        let mut tell = |reached: &Reached| over.push(reached.to_string());
        held.take(&rules, &Asker::default(), NEED, at(0), &mut tell)
            .unwrap();
    }
    let told = "The limit `watch` of this route is reached: 1 requests at once.";
    assert_eq!(over, [told, told]);
}

#[test]
fn a_budget_begins_with_what_was_spent() {
    let registry = Registry::new(Box::new(|scope, per, _| {
        assert_eq!((scope, per), (&Scope::Route("r".to_owned()), Per::Key));
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
    let now = Timestamp::now();
    let take = || {
        let mut reservation = Reservation::default();
        let taken = reservation.take(&rules, &Asker::default(), NEED, now, &mut |_| {});
        taken.map(|()| reservation)
    };
    take().unwrap().settle(NEED, now);
    let reached = reached(take().unwrap_err());
    let fault = reached.fault();
    assert!(
        fault.message.contains("0.0000001 US dollars in 86400s"),
        "{}",
        fault.message
    );
    assert!(fault.retry_after.is_some_and(|seconds| seconds <= 86_400));
}

#[test]
fn a_month_begins_on_its_first_day_and_what_is_given_once_never_comes_back() {
    let day = |text: &str| format!("{text}T00:00:00Z").parse::<Timestamp>().unwrap();
    let month = Capacity::month(10);
    let meter = Meter::with(10, day("2026-02-03"));
    let wait = reserve(&meter, month, 1, day("2026-02-27")).unwrap_err();
    assert_eq!(wait, Duration::from_secs(2 * 86_400));
    assert!(reserve(&meter, month, 1, day("2026-03-01")).is_ok());
    let once = Capacity::once(10);
    let meter = Meter::with(10, day("2026-02-03"));
    assert_eq!(reserve(&meter, once, 1, day("2036-02-03")), Err(NEVER));
    assert_eq!(once.window_start(at(0)), Some(Timestamp::UNIX_EPOCH));
}

#[test]
fn requests_count_for_each_team_user_tag_and_model_alone() {
    let registry = Registry::default();
    let tags = ["t1".to_owned(), "t2".to_owned()];
    let first = Asker {
        key: "k",
        team: "a",
        user: "u",
        tags: &tags,
        model: "m",
    };
    let others = [
        (Per::Key, Asker { key: "l", ..first }),
        (Per::Team, Asker { team: "b", ..first }),
        (Per::User, Asker { user: "", ..first }),
        (
            Per::Tag,
            Asker {
                tags: &tags[..0],
                ..first
            },
        ),
        (
            Per::Model,
            Asker {
                model: "n",
                ..first
            },
        ),
    ];
    for (per, other) in others {
        let once = Limit {
            concurrency: Some(1),
            ..limit("once", per, Mode::Enforce)
        };
        let rules = rules("r", &[once], &[], &registry);
        let mut held = Reservation::default();
        let mut take = |asker: &Asker<'_>| held.take(&rules, asker, NEED, at(0), &mut |_| {});
        assert!(take(&first).is_ok(), "{per:?}");
        assert!(take(&first).is_err(), "{per:?}");
        assert!(take(&other).is_ok(), "{per:?}");
    }
}

#[test]
fn an_allowance_counts_the_models_that_it_names_and_no_two_alike() {
    let registry = Registry::default();
    let budget = |model: Option<&str>, window: Option<Window>| allowance::Budget {
        amount: Dollars::from_nanos(7),
        window,
        model: model.map(str::to_owned),
        mode: Mode::Enforce,
    };
    let compile = |budgets: &[allowance::Budget]| {
        let allowance = Allowance {
            budgets: budgets.to_vec(),
            ..Allowance::default()
        };
        allowed(Kind::Team, "eng", &allowance, &registry)
    };
    let rules = compile(&[
        budget(Some("gpt-*"), None),
        budget(None, Some(Window::Month)),
    ])
    .unwrap();
    let take = |model: &str| {
        let asker = Asker {
            model,
            ..Asker::default()
        };
        let mut held = Reservation::default();
        let taken = held.take(&rules[..1], &asker, NEED, at(0), &mut |_| {});
        taken.map_err(reached)?;
        held.settle(NEED, at(0));
        Ok::<_, Reached>(())
    };
    assert!(take("gpt-4").is_ok());
    let told = take("gpt-5").unwrap_err().fault().message;
    let expected = "The limit `team-model-budget` of the team `eng` is reached: 0.000000007 US dollars in all. Ask for a higher one.";
    assert_eq!(told, expected);
    assert!(take("small").is_ok());
    let twice = compile(&[budget(None, None), budget(None, None)]).unwrap_err();
    let name = "team-budget".to_owned();
    assert_eq!(twice, InvalidRules::Twice { name });
    assert!(compile(&[budget(Some("a*b"), None)]).is_err());
}

#[test]
fn a_request_that_moves_to_another_route_keeps_what_its_key_has_reserved() {
    let registry = Registry::default();
    let once = Limit {
        concurrency: Some(1),
        ..limit("once", Per::Route, Mode::Enforce)
    };
    let first = rules("r", std::slice::from_ref(&once), &[], &registry);
    let second = rules("s", &[once], &[], &registry);
    let allowance = Allowance {
        limits: vec![allowance::Limit {
            concurrency: Some(1),
            ..allowance::Limit::default()
        }],
        ..Allowance::default()
    };
    let own = allowed(Kind::Key, "k", &allowance, &registry).unwrap();
    let mut held = take(&first).unwrap();
    held.take(&own, &Asker::default(), NEED, at(0), &mut |_| {})
        .unwrap();
    held.move_to(take(&second).unwrap());
    assert!(take(&first).is_ok());
    assert!(take(&second).is_err() && take(&own).is_err());
    drop(held);
    assert!(take(&second).is_ok() && take(&own).is_ok());
}
