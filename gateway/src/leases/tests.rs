//! Leases, on replicas that die, clocks that go on and a network that loses, doubles and delays what is said.

mod clock;
mod simulation;

use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, proptest};
use protocol::snapshot::OnPartition;

use self::{
    clock::Clock,
    simulation::{Faults, Work, World},
};
use crate::limits::Capacity;

const NAMES: [&str; 3] = ["a", "b", "c"];
const HOUR: Duration = Duration::from_secs(3600);

/// Runs a simulation.
fn simulate<F: Future<Output = ()> + 'static>(run: impl FnOnce(Clock) -> F) {
    let clock = Clock::default();
    clock.run(run(clock.clone()));
}

/// Sixty-four callers on three replicas, whatever else happens.
async fn check(clock: Clock, seed: u64, capacity: Capacity, faults: Faults) {
    let world = World::new(&clock, seed, &NAMES, capacity, OnPartition::Refuse);
    let work = Work {
        callers: 64,
        amount_max: 50,
        lasts: Duration::from_secs(25),
    };
    world.run(work, faults).await;
    let most = u128::from(capacity.limit()) + 49;
    for (window, spent) in world.spent() {
        assert!(
            spent <= most,
            "seed {seed}: {spent} of {capacity:?} in {window}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_limit_is_passed_by_one_request_at_most_whatever_the_network_does(
        seed in any::<u64>(),
        limit in 100_u64..20_000,
    ) {
        simulate(|clock| check(clock, seed, Capacity::window(limit, HOUR), Faults::network()));
    }

    #[test]
    fn a_limit_is_passed_by_one_request_at_most_whoever_dies_and_comes_back(
        seed in any::<u64>(),
        limit in 100_u64..20_000,
    ) {
        simulate(|clock| check(clock, seed, Capacity::window(limit, HOUR), Faults::all()));
    }

    #[test]
    fn each_window_has_its_limit_also_where_they_are_short(
        seed in any::<u64>(),
        limit in 100_u64..2_000,
    ) {
        let capacity = Capacity::window(limit, Duration::from_secs(4));
        simulate(|clock| check(clock, seed, capacity, Faults::all()));
    }
}

#[test]
fn all_of_a_limit_can_be_used_by_whoever_asks_last() {
    for seed in 0..20 {
        simulate(|clock| async move {
            let capacity = Capacity::window(1000, HOUR);
            let world = World::new(&clock, seed, &NAMES, capacity, OnPartition::Refuse);
            let work = Work {
                callers: 9,
                amount_max: 7,
                lasts: Duration::from_millis(400),
            };
            world.run(work, Faults::none()).await;
            let before = world.spent().values().sum::<u128>();
            while world.request("c", 7, 7).await {}
            let spent = world.spent().values().sum::<u128>();
            assert!(
                before <= spent && (1000..1007).contains(&spent),
                "{before} {spent}"
            );
        });
    }
}

#[test]
fn what_a_last_request_has_reserved_and_does_not_need_is_nobodys() {
    simulate(|clock| async move {
        let capacity = Capacity::window(100, HOUR);
        let world = World::new(&clock, 2, &NAMES, capacity, OnPartition::Refuse);
        let held = world.reserve("a", u64::MAX).await.unwrap();
        assert!(!world.request("b", 1, 1).await);
        world.report().await;
        world.settle(held, 97);
        let mut served = 0;
        for name in NAMES {
            clock.sleep(Duration::from_secs(1)).await;
            while world.request(name, 1, 1).await {
                served += 1;
            }
        }
        assert_eq!(served, 3);
    });
}

#[test]
fn a_slice_is_asked_for_not_a_request() {
    simulate(|clock| async move {
        let capacity = Capacity::window(1_000_000, HOUR);
        let world = World::new(&clock, 1, &NAMES, capacity, OnPartition::Refuse);
        for _ in 0..4000 {
            assert!(world.request("a", 1, 1).await);
        }
        let said = world.messages();
        assert!(said < 100, "{said} messages for 4000 requests");
    });
}

#[test]
fn who_is_cut_off_gives_a_share_and_refuses_beyond() {
    for (policy, expected) in [(OnPartition::LocalShare, 300), (OnPartition::Refuse, 0)] {
        simulate(|clock| async move {
            let capacity = Capacity::window(900, HOUR);
            let world = World::new(&clock, 3, &NAMES, capacity, policy);
            world.settle_all().await;
            world.isolate("c");
            let mut served = 0;
            while world.request("c", 10, 10).await {
                served += 10;
            }
            assert_eq!(served, expected, "{policy:?}");
            // The others go on with all that is left, and hear of it once the way is free.
            let mut others = 0;
            while world.request("a", 10, 10).await {
                others += 10;
            }
            assert_eq!(others, 900, "{policy:?}");
            world.heal();
            clock.sleep(Duration::from_secs(5)).await;
            world.report().await;
            assert!(!world.request("c", 10, 10).await);
        });
    }
}

#[test]
fn what_a_dead_replica_held_counts_until_it_comes_back_with_its_ledger() {
    simulate(|clock| async move {
        let capacity = Capacity::window(10_000, HOUR);
        let world = World::new(&clock, 5, &NAMES, capacity, OnPartition::Refuse);
        assert!(world.request("a", 10, 10).await);
        world.kill("a");
        let mut served = 0;
        while world.request("b", 10, 10).await {
            served += 10;
        }
        assert!((9000..9990).contains(&served), "{served}");
        world.restart("a");
        clock.sleep(Duration::from_secs(5)).await;
        while world.request("b", 10, 10).await {
            served += 10;
        }
        assert_eq!(served, 9990);
    });
}

#[test]
fn places_go_where_they_are_needed_and_are_never_more_than_there_are() {
    simulate(|clock| async move {
        let capacity = Capacity::at_once(8);
        let world = World::new(&clock, 7, &NAMES, capacity, OnPartition::Refuse);
        let mut held = Vec::new();
        for name in NAMES.iter().cycle().take(20) {
            held.extend(world.reserve(name, 1).await);
        }
        assert_eq!(held.len(), 8);
        for place in held.drain(..) {
            world.settle(place, 1);
        }
        clock.sleep(Duration::from_secs(1)).await;
        for _ in 0..20 {
            held.extend(world.reserve("b", 1).await);
        }
        assert_eq!(held.len(), 8);
    });
}

#[test]
fn a_rate_that_is_shared_comes_back_evenly() {
    simulate(|clock| async move {
        let capacity = Capacity::refill(100, Duration::from_secs(10));
        let world = World::new(&clock, 9, &NAMES, capacity, OnPartition::Refuse);
        let (world, clock) = (&world, &clock);
        let serve = |until: Duration| async move {
            let (mut served, begun) = (0, clock.now());
            for name in NAMES.iter().cycle() {
                if begun + until <= clock.now() {
                    break;
                }
                served += u32::from(world.request(name, 1, 1).await);
                clock.sleep(Duration::from_millis(5)).await;
            }
            served
        };
        // All of it at first, then ten a second.
        let first = serve(Duration::from_secs(2)).await;
        assert!((95..=122).contains(&first), "{first}");
        let then = serve(Duration::from_secs(10)).await;
        assert!((85..=105).contains(&then), "{then}");
    });
}

#[test]
fn a_replica_alone_on_its_list_needs_nobody() {
    simulate(|clock| async move {
        let capacity = Capacity::window(100, HOUR);
        let world = World::new(&clock, 11, &["a"], capacity, OnPartition::Refuse);
        let mut served = 0;
        while world.request("a", 7, 7).await {
            served += 7;
        }
        assert_eq!((served, world.messages()), (105, 0));
    });
}
