//! Whom to try next: another replica of the same target while there are tries to spare, then the next target.

use std::{cell::OnceCell, sync::Arc, time::Instant};

use protocol::snapshot::{Adapter, Strategy};
use rand::Rng;

use crate::{
    call::Operation,
    decode::Decoded,
    endpoint::{Endpoint, Standing},
    limits::Reservation,
    policy::{self, Session},
    prefix::{CHAT, COMPLETION, Chain, Load, MESSAGE, Prediction, RESPONSE, Seed, chain},
    route::{self, Wish},
    table::{Route, Target},
};

/// Whom to try, in order.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    route: &'a Route,
    /// The targets that were not left yet; the first one is being tried.
    targets: Vec<usize>,
    order: Vec<usize>,
    session: Option<Session>,
    tried: Vec<Arc<Endpoint>>,
    prompt: Prompt<'a>,
    has_begun: bool,
}

/// The prompt, hashed when somebody asks.
#[derive(Debug)]
struct Prompt<'a> {
    decoded: &'a Decoded,
    /// The adapter that reads it, whose cache is not the model's.
    adapter: Option<&'a str>,
    /// The name that was asked for.
    asked: &'a str,
    chain: OnceCell<Chain>,
}

impl Prompt<'_> {
    /// `None` for what engines cache nothing of.
    fn chain(&self, route: &Route) -> Option<&Chain> {
        let fields = match self.decoded.operation {
            Operation::Chat => CHAT,
            Operation::Completion => COMPLETION,
            Operation::Response => RESPONSE,
            Operation::Message => MESSAGE,
            _ => return None,
        };
        let hash = || {
            // A target that has many models shares no cache between them.
            let has_many = route.targets.iter().any(|target| target.naming.is_some());
            let model = if has_many { self.asked } else { "" };
            let seed = Seed::new(&route.id, self.adapter, model);
            chain(&self.decoded.body, fields, seed)
        };
        Some(self.chain.get_or_init(hash))
    }
}

/// A replica to try.
#[derive(Debug)]
pub(super) struct Next {
    /// The target's place in the route.
    pub(super) target: usize,
    /// The replica.
    pub(super) endpoint: Arc<Endpoint>,
    /// Whether all replicas were tried before, so that a wait is due.
    pub(super) is_repeat: bool,
    /// What is expected of the replica's cache.
    pub(super) prediction: Option<Prediction>,
    /// What the request has reserved at the target, if that has limits.
    pub(super) reservation: Option<Box<Reservation>>,
}

impl<'a> Candidates<'a> {
    /// The candidates of a route.
    pub(super) fn new(
        route: &'a Route,
        (decoded, asked): (&'a Decoded, &'a str),
        wish: &Wish<'_>,
        random: &mut impl Rng,
    ) -> Self {
        let order = route::order(route, wish, Instant::now(), random);
        let model = &decoded.fields.model;
        let mut adapters = route.targets.iter().map(|target| target.adapter(model));
        let adapter = adapters.find_map(|adapter| Some(&*adapter?.name));
        Self {
            route,
            targets: order.clone(),
            order,
            session: wish.session,
            tried: Vec::new(),
            prompt: Prompt {
                decoded,
                adapter,
                asked,
                chain: OnceCell::new(),
            },
            has_begun: false,
        }
    }

    /// The next one; `tries_left` counts this one. `None` if no target has a replica.
    pub(super) fn next(
        &mut self,
        tries_left: u32,
        now: Instant,
        random: &mut impl Rng,
    ) -> Option<Next> {
        let untried = u32::try_from(self.targets.len().saturating_sub(1)).unwrap_or(u32::MAX);
        if self.has_begun && 0 < untried && tries_left <= untried {
            // As many tries as targets are left: the others must get theirs.
            self.targets.remove(0);
        }
        self.has_begun = true;
        if let Some(next) = self.pick(now, random) {
            return Some(next);
        }
        if self.tried.is_empty() {
            return None;
        }
        self.tried.clear();
        self.targets.clone_from(&self.order);
        self.pick(now, random).map(|next| Next {
            is_repeat: true,
            ..next
        })
    }

    /// Leaves out replicas that may not be asked at all; [`Self::other`] picks none of them.
    pub(super) fn leave_out<'e>(&mut self, endpoints: impl Iterator<Item = &'e Arc<Endpoint>>) {
        self.tried.extend(endpoints.cloned());
    }

    /// A replica that was not asked yet, of the same target or the next one.
    pub(super) fn other(&mut self, now: Instant, random: &mut impl Rng) -> Option<Next> {
        let targets = self.targets.clone();
        let other = self.pick(now, random);
        if other.is_none() {
            // Nobody is left: a later try must find the targets as they were.
            self.targets = targets;
        }
        other
    }

    /// Leaves the target that was tried last: its other replicas would fail alike.
    pub(super) fn leave_target(&mut self) {
        if !self.targets.is_empty() {
            self.targets.remove(0);
        }
        self.has_begun = false;
    }

    /// Leaves the target of a candidate that was not asked, for all of the request: it takes no more for now.
    pub(super) fn leave_full(&mut self, candidate: &Next) {
        self.put_back(candidate);
        self.targets.retain(|target| *target != candidate.target);
        self.order.retain(|target| *target != candidate.target);
        self.has_begun = false;
    }

    /// Takes a candidate back that was not asked.
    pub(super) fn put_back(&mut self, candidate: &Next) {
        let asked = &candidate.endpoint;
        self.tried.retain(|tried| !Arc::ptr_eq(tried, asked));
    }

    fn pick(&mut self, now: Instant, random: &mut impl Rng) -> Option<Next> {
        while let Some(target) = self.targets.first().copied() {
            let picked = self.pick_by_prefix(target, now, random);
            let picked = picked.or_else(|| {
                let endpoint = self.pick_plainly(target, now, random)?;
                Some((endpoint, None))
            });
            if let Some((endpoint, prediction)) = picked {
                self.tried.push(Arc::clone(&endpoint));
                return Some(Next {
                    target,
                    endpoint,
                    is_repeat: false,
                    prediction,
                    reservation: None,
                });
            }
            self.targets.remove(0);
        }
        None
    }

    /// The session's replica, or one that is not busy.
    fn pick_plainly(
        &self,
        target: usize,
        now: Instant,
        random: &mut impl Rng,
    ) -> Option<Arc<Endpoint>> {
        let target = &self.route.targets[target];
        let (endpoints, tried) = (&target.endpoints, &self.tried);
        if let Some(session) = self.session
            && let Some(endpoint) = policy::pick_for_session(session, endpoints, tried, now)
        {
            return Some(endpoint);
        }
        if let Some(adapter) = self.adapter_at(target) {
            let cost = |endpoint: &Endpoint| {
                let seconds = endpoint.adapters.seconds(adapter, now)?;
                Some(seconds + policy::by_pace(endpoint, now))
            };
            return policy::cheapest(endpoints, tried, now, cost, random);
        }
        match self.route.strategy {
            Strategy::LeastBusy | Strategy::Latency => {
                let busy = |endpoint: &Endpoint| policy::by_pace(endpoint, now);
                policy::pick(endpoints, tried, now, busy, random)
            }
            Strategy::Weighted | Strategy::Failover | Strategy::Cost | Strategy::Headroom => {
                policy::pick(endpoints, tried, now, policy::by_load, random)
            }
        }
    }

    /// The adapter that the request needs of a target.
    fn adapter_at<'t>(&self, target: &'t Target) -> Option<&'t Adapter> {
        self.prompt.adapter?;
        target.adapter(&self.prompt.decoded.fields.model)
    }

    /// The replica that has most of the prompt in its cache, if the route asks for it.
    fn pick_by_prefix(
        &self,
        target: usize,
        now: Instant,
        random: &mut impl Rng,
    ) -> Option<(Arc<Endpoint>, Option<Prediction>)> {
        let target = &self.route.targets[target];
        let caches = target.caches.as_ref()?;
        let started = Instant::now();
        // Each target has an index of its own, so that one seed does for all of a request's.
        let chain = self.prompt.chain(self.route)?;
        let replicas = target.endpoints.iter().zip(&caches.seats);
        let adapter = self.adapter_at(target);
        let seconds = |endpoint: &Endpoint| match adapter {
            None => Some(0.0),
            Some(adapter) => endpoint.adapters.seconds(adapter, now),
        };
        let is_tried = |endpoint| self.tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint));
        let (endpoints, loads): (Vec<_>, Vec<_>) = replicas
            .filter(|(endpoint, _)| !is_tried(endpoint))
            .filter(|(endpoint, _)| !matches!(endpoint.standing(now), Standing::RateLimited { .. }))
            .map(|(endpoint, seat)| {
                let waits = seconds(endpoint);
                let load = Load {
                    seat,
                    in_flight: endpoint.in_flight(),
                    is_usable: waits.is_some() && endpoint.is_usable(now),
                    seconds: waits.unwrap_or_default(),
                };
                (endpoint, load)
            })
            .unzip();
        let (picked, mut prediction) = caches.picker.pick(chain.clone(), &loads, random)?;
        prediction.note_decision(started.elapsed());
        Some((Arc::clone(endpoints[picked]), Some(prediction)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use protocol::snapshot::{Access, GatewaySnapshot, RouteEntry, Strategy, Target};
    use rand::{SeedableRng, rngs::StdRng};

    use super::{Candidates, Wish};
    use crate::table::{Lasting, Table};
    use crate::{call::Operation, decode::Decoded};

    /// Targets with so many replicas, tried so often: which target is tried when, `!` marks a repeat.
    #[track_caller]
    fn check(replicas: &[usize], tries: u32, expected: &str) {
        let target = |(index, count): (usize, &usize)| Target {
            name: index.to_string(),
            model: "m".to_owned(),
            endpoints: (0..*count)
                .map(|replica| format!("http://t{index}-{replica}/v1"))
                .collect(),
            weight: 1,
            priority: u32::try_from(index).unwrap(),
            ..Target::default()
        };
        let entry = RouteEntry {
            namespace: "ns".to_owned(),
            name: "r".to_owned(),
            generation: 1,
            models: vec!["*".to_owned()],
            strategy: Strategy::Failover,
            targets: replicas.iter().enumerate().map(target).collect(),
            access: Access::Open,
            ..RouteEntry::default()
        };
        let table = Table::compile(
            &GatewaySnapshot::new(vec![entry], Vec::new()),
            &Lasting::default(),
        )
        .unwrap();
        let mut random = StdRng::seed_from_u64(7);
        let decoded = Decoded::of(Operation::Chat, r#"{"model":"m"}"#);
        let wish = Wish {
            session: None,
            barred: &[],
            guess: decoded.guess(),
        };
        let mut candidates = Candidates::new(&table.routes[0], (&decoded, "m"), &wish, &mut random);
        let mut seen = String::new();
        for left in (1..=tries).rev() {
            let Some(next) = candidates.next(left, Instant::now(), &mut random) else {
                break;
            };
            seen.push_str(if next.is_repeat { "!" } else { "" });
            seen.push_str(&next.target.to_string());
        }
        assert_eq!(seen, expected);
    }

    #[test]
    fn every_target_gets_a_try_and_replicas_get_the_rest() {
        check(&[1], 3, "0!0!0");
        check(&[1, 1], 3, "01!0");
        check(&[3, 1], 3, "001");
        check(&[3, 3, 3], 3, "012");
        check(&[3, 3], 1, "0");
        check(&[0, 1], 2, "1!1");
        check(&[0, 0], 3, "");
        check(&[], 3, "");
    }
}
