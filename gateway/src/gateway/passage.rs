//! The way of one request whose body is here: its route, its limits, the cache, the targets, other routes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Response};
use protocol::{openai::ErrorKind, routing::FailureClass};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};

use super::{
    Gateway,
    answer::{Held, answer, answer_again, fail, refuse, unaccounted},
};
use crate::{
    account::Accounting,
    attribution::Attribution,
    authorize::Caller,
    cache::Found,
    call::{Call, Operation},
    condition::{Condition, Facts},
    cost::cost,
    decode::{Decoded, Upload, of_headers},
    encode::{Body, CACHE, patiently},
    fallback,
    fault::Fault,
    forward::{ANSWER_BYTES_MAX, Failed, Forward, forward},
    guard::{self, Services, Session, Sessions},
    limits::{Asker, Need, Reached, Refused, Reservation, SHORTAGES_MAX},
    provider::Tokens,
    realtime::Invitation,
    route::{Wish, route},
    session::session,
    table::{Route, Table},
};

/// Routes that a request may be passed on to after the first: no circle, and an end.
const DETOURS_MAX: usize = 3;

/// A request whose body is here.
pub(super) struct Admitted {
    /// The call.
    pub(super) call: Call,
    /// The table that it is routed by to its end.
    pub(super) table: Arc<Table>,
    /// Who calls.
    pub(super) caller: Caller,
    /// The client's headers.
    pub(super) headers: HeaderMap,
    /// The request.
    pub(super) decoded: Decoded,
    /// The form that goes in the place of its body, if it is one.
    pub(super) upload: Option<Upload>,
    /// The client's side of the conversation, if it asks for one.
    pub(super) invitation: Option<Invitation>,
    /// The model that a fallback names in the place of the request's.
    pub(super) renamed: Option<String>,
    /// Whom it is counted for.
    pub(super) attribution: Attribution,
    /// Its place in the gateway.
    pub(super) permit: OwnedSemaphorePermit,
}

impl Admitted {
    /// When the request must be answered by a route.
    pub(super) fn deadline(&self, route: &Route) -> Instant {
        self.call.started + Duration::from_millis(route.timeouts.request_millis)
    }

    /// The model's name by which its route was found.
    pub(super) fn asked(&self) -> &str {
        let renamed = self.renamed.as_deref();
        renamed.unwrap_or(&self.decoded.fields.model)
    }

    /// Who asks.
    fn asker(&self) -> Asker<'_> {
        self.attribution
            .asker(&self.caller, &self.decoded.fields.model)
    }

    /// The models that are asked when a route gives no answer: those of the request, of the route, of the key.
    fn wanted_after(&self, route: &Route, class: FailureClass) -> Vec<String> {
        let said = of_headers(&self.headers);
        let said = self.decoded.fallbacks.iter().cloned().chain(said);
        let of_route = route.fallbacks.models(class).map(str::to_owned);
        let terms = self.caller.terms();
        let of_key = terms.map_or(&[][..], |terms| &terms.fallbacks);
        said.chain(of_route).chain(of_key.iter().cloned()).collect()
    }

    /// Who asks for what, as the services of guards are told.
    fn asks_as(&self) -> guard::Asker {
        guard::Asker {
            model: self.decoded.fields.model.clone(),
            key: self.caller.account().to_owned(),
            team: self.caller.team().map(str::to_owned),
            user: self.caller.user().map(str::to_owned),
        }
    }

    /// What the request may need: a guess of its tokens, at the dearest of the route's targets.
    fn need(&self, route: &Route) -> (Need, Tokens) {
        let guess = self.decoded.guess();
        let costs = route
            .targets
            .iter()
            .map(|target| cost(&target.prices, guess));
        let need = Need {
            tokens: guess.total(),
            cost: costs.max().unwrap_or_default(),
        };
        (need, guess)
    }
}

impl Facts {
    /// What is known of a request, if any condition may ask for it.
    pub(super) fn where_asked(admitted: &Admitted) -> Option<Self> {
        let Admitted {
            table,
            caller,
            headers,
            decoded,
            ..
        } = admitted;
        table
            .has_conditions
            .then(|| Self::of(caller, headers, decoded))
    }
}

impl Gateway {
    /// The way of a request whose body is here, from its route to its answer.
    pub(super) async fn pass(
        self: Arc<Self>,
        mut admitted: Admitted,
    ) -> Result<Response<Body>, Fault> {
        let facts = Facts::where_asked(&admitted);
        let route = self.route(&admitted, facts.as_ref(), &admitted.decoded.fields.model)?;
        if let Some(prompts) = &route.prompts {
            prompts.put_in(&mut admitted.decoded)?;
        }
        let mut accounting = self.open_account(&admitted, &route).await?;
        if !self.ledger.is_healthy() {
            // Asked before the upstream is: an answer that could not be accounted for would be wasted.
            accounting
                .begin()
                .await
                .map_err(|error| unaccounted(&error))?;
        }
        let mut held = Held {
            accounting,
            lead: None,
            guards: Sessions::default(),
        };
        if let Err(fault) = self.guard(&mut admitted, &route, &mut held).await {
            return refuse(fault, held.accounting).await;
        }
        held.note_request(&admitted);
        let Some(cache) = &route.cache else {
            return self.ask(admitted, facts, route, held).await;
        };
        let until = admitted.call.started + Duration::from_millis(route.timeouts.first_byte_millis);
        let found = cache
            .find(
                &admitted.caller,
                &admitted.headers,
                &admitted.decoded,
                until,
            )
            .await;
        let word = found.word();
        self.metrics.count_cache(&route.id, word);
        let mut response = match found {
            Found::Kept(kept) => answer_again(&route, &admitted.decoded, &kept, held).await?,
            Found::Missing(lead) => {
                held.lead = Some(lead);
                self.ask(admitted, facts, Arc::clone(&route), held).await?
            }
            Found::Bypass => self.ask(admitted, facts, Arc::clone(&route), held).await?,
        };
        let word = HeaderValue::from_static(word);
        response.headers_mut().insert(CACHE, word);
        Ok(response)
    }

    /// Passes the request through the guards of a route.
    async fn guard(
        &self,
        admitted: &mut Admitted,
        route: &Route,
        held: &mut Held,
    ) -> Result<(), Fault> {
        let Some(guards) = &route.guards else {
            return Ok(());
        };
        let services = guards.ask_services().then(|| {
            Box::new(Services {
                asker: admitted.asks_as(),
                client: self.upstream.clone(),
            })
        });
        let mut session = Session::new(guards, &route.id, &admitted.call, &self.metrics, services);
        if admitted.invitation.is_some() {
            let message = "This model has guards, which cannot look into conversations.";
            return Err(Fault::new(ErrorKind::PermissionDenied, message));
        }
        // Of a form there is nothing to look at but its answer.
        if admitted.upload.is_none() {
            let body = session.request(&admitted.decoded.body).await?;
            if body != admitted.decoded.body {
                admitted.decoded = admitted.decoded.with_body(body)?;
            }
        }
        held.guards.push(session);
        Ok(())
    }

    /// Asks the route's targets; a stream whose request may wait begins with comments when it does.
    async fn ask(
        self: &Arc<Self>,
        admitted: Admitted,
        facts: Option<Facts>,
        route: Arc<Route>,
        held: Held,
    ) -> Result<Response<Body>, Fault> {
        let can_wait = route.queue.is_some() || route.cold_start.is_some();
        let is_told = matches!(
            admitted.call.operation,
            Operation::Chat | Operation::Completion | Operation::Response | Operation::Message
        );
        if !can_wait || !is_told || !admitted.decoded.fields.stream {
            return self.ask_now(admitted, facts, route, held).await;
        }
        let surface = admitted.call.operation.surface();
        let gateway = Arc::clone(self);
        let coming = async move { gateway.ask_now(admitted, facts, route, held).await };
        patiently(Box::pin(coming), self.limits.keep_alive, surface).await
    }

    /// Asks the route's targets, and other routes' where they fall back to them.
    async fn ask_now(
        self: &Arc<Self>,
        mut admitted: Admitted,
        facts: Option<Facts>,
        mut route: Arc<Route>,
        mut held: Held,
    ) -> Result<Response<Body>, Fault> {
        let mut left: Vec<Arc<Route>> = Vec::new();
        loop {
            if route.is_on_demand {
                route.ask_for_replicas(&self.barred(&route, facts.as_ref()));
            }
            let turn = self.wait(&mut admitted, &mut route).await;
            let barred = self.barred(&route, facts.as_ref());
            let (caller, headers) = (&admitted.caller, &admitted.headers);
            let session = |source| session(source, caller, headers, &admitted.decoded);
            let wish = Wish {
                session: route.session.as_ref().and_then(session),
                barred: &barred,
                guess: admitted.decoded.guess(),
            };
            let request = self.forward(&admitted, &route, wish);
            let outcome = match turn {
                Ok(turn) => {
                    held.accounting.hold_turn(turn);
                    forward(request).await
                }
                Err(failed) => Err(failed),
            };
            let failed = match outcome {
                Ok(answered) => {
                    self.copy(&route, &admitted);
                    return answer(admitted, &route, answered, held).await;
                }
                Err(failed) => failed,
            };
            left.push(route);
            let detour = self.detour(&mut admitted, facts.as_ref(), &left, &failed, &mut held);
            match detour.await {
                Some(next) => route = next,
                None => return fail(&admitted, &left, failed, held.accounting).await,
            }
        }
    }

    /// What a request is forwarded with.
    pub(super) fn forward<'a>(
        &'a self,
        admitted: &'a Admitted,
        route: &'a Route,
        wish: Wish<'a>,
    ) -> Forward<'a> {
        Forward {
            upstream: &self.upstream,
            metrics: &self.metrics,
            route,
            call: &admitted.call,
            decoded: &admitted.decoded,
            asked: admitted.asked(),
            wish,
            headers: &admitted.headers,
            uploads: &self.uploads,
            upload: admitted.upload.as_ref(),
            sockets: &self.socket_upstream,
            fleet: &self.fleet,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    /// The route whose model is asked after a failure; the account moves there, and its limits are reserved.
    async fn detour(
        &self,
        admitted: &mut Admitted,
        facts: Option<&Facts>,
        left: &[Arc<Route>],
        failed: &Failed,
        held: &mut Held,
    ) -> Option<Arc<Route>> {
        let (route, class) = (left.last()?, failed.class?);
        let is_spent = admitted.upload.as_ref().is_some_and(Upload::is_spent);
        if DETOURS_MAX < left.len() || is_spent {
            return None;
        }
        for model in &admitted.wanted_after(route, class) {
            let Ok(next) = self.route(admitted, facts, model) else {
                continue;
            };
            let time = Duration::from_millis(next.timeouts.request_millis);
            let is_over = admitted.call.started + time <= Instant::now();
            if is_over || left.iter().any(|left| left.id == next.id) {
                continue;
            }
            let (need, _) = admitted.need(&next);
            // What is held for the first route must not stand in the way of the second.
            held.accounting.release();
            let Ok(reservation) = self.reserve(admitted, &next, need).await else {
                continue;
            };
            // What may not be said to a model is not said to it on a detour either.
            if self.guard(admitted, &next, held).await.is_err() {
                continue;
            }
            admitted.renamed = Some(model.clone());
            held.note_request(admitted);
            held.accounting.reroute(&next, reservation);
            // What another model says is not kept for this one.
            held.lead = None;
            let class = fallback::name(class);
            self.metrics.routing.count_fallback(&route.id, class);
            let (request_id, route, next_route) = (&admitted.call.id, &route.id, &next.id);
            info!(
                request_id,
                route, next_route, class, "another model is asked"
            );
            return Some(next);
        }
        None
    }

    /// Reserves what the request may need of all limits, and opens its account.
    pub(super) async fn open_account(
        &self,
        admitted: &Admitted,
        route: &Route,
    ) -> Result<Accounting, Fault> {
        let (need, guess) = admitted.need(route);
        // All or nothing: what is held of some limits is given back where one refuses.
        let reservation = self.reserve(admitted, route, need).await?;
        let Admitted {
            call,
            caller,
            decoded,
            ..
        } = admitted;
        let asker = admitted.asker();
        let (ledger, metrics) = (Arc::clone(&self.ledger), Arc::clone(&self.metrics));
        let mut accounting =
            Accounting::new(call, caller, route, &decoded.fields.model, ledger, metrics);
        accounting.attribute(&asker, decoded.fields.user.as_deref());
        accounting.hold(reservation, guess);
        accounting.watch(self.observers.watch(call.trace.as_deref()));
        Ok(accounting)
    }

    /// Reserves what the request may need of the limits of the route, and of all whom it is counted for.
    async fn reserve(
        &self,
        admitted: &Admitted,
        route: &Route,
        need: Need,
    ) -> Result<Reservation, Fault> {
        self.reserve_of(admitted, route, need, Reservation::default)
            .await
    }

    /// Reserves only the money that the request may need.
    pub(super) async fn reserve_money(
        &self,
        admitted: &Admitted,
        route: &Route,
        need: Need,
    ) -> Result<Reservation, Fault> {
        self.reserve_of(admitted, route, need, Reservation::of_money)
            .await
    }

    async fn reserve_of(
        &self,
        admitted: &Admitted,
        route: &Route,
        need: Need,
        begin: fn() -> Reservation,
    ) -> Result<Reservation, Fault> {
        for _ in 0..SHORTAGES_MAX {
            match self.try_reserve(admitted, route, need, begin()) {
                Ok(reservation) => return Ok(reservation),
                Err(Refused::Reached(reached)) => return Err(reached.fault()),
                Err(Refused::Short(shortage)) => Box::pin(self.fleet.relieve(shortage)).await,
            }
        }
        let message = "Other requests are faster at what is left of a limit. Try again later.";
        Err(Fault::new(ErrorKind::RateLimited, message))
    }

    fn try_reserve(
        &self,
        admitted: &Admitted,
        route: &Route,
        need: Need,
        mut reservation: Reservation,
    ) -> Result<Reservation, Refused> {
        let mut over = |reached: &Reached| self.metrics.count_limit(&route.id, reached);
        let (asker, now) = (admitted.asker(), admitted.call.started_at);
        reservation.take(&route.rules, &asker, need, now, &mut over)?;
        let (caller, parties) = (&admitted.caller, &self.lasting.parties);
        let request = (&asker, need, now);
        admitted
            .attribution
            .reserve(caller, parties, &mut reservation, request, &mut over)?;
        Ok(reservation)
    }

    /// The route that answers a model's name for the caller.
    pub(super) fn route(
        &self,
        admitted: &Admitted,
        facts: Option<&Facts>,
        model: &str,
    ) -> Result<Arc<Route>, Fault> {
        let holds = |condition: &Condition| self.holds(model, condition, facts);
        route(&admitted.table, &admitted.caller, model, holds).map(Arc::clone)
    }

    /// The targets of a route whose conditions do not hold.
    pub(super) fn barred(&self, route: &Route, facts: Option<&Facts>) -> Vec<usize> {
        let targets = route.targets.iter().enumerate();
        let barred = targets.filter_map(|(place, target)| {
            let condition = target.when.as_ref()?;
            (!self.holds(&route.id, condition, facts)).then_some(place)
        });
        barred.collect()
    }

    fn holds(&self, of: &str, condition: &Condition, facts: Option<&Facts>) -> bool {
        let holds = facts.map(|facts| condition.holds(facts));
        holds.is_some_and(|holds| {
            holds.unwrap_or_else(|error| {
                warn!(of, %error, "a condition failed on a request and is taken for false");
                self.metrics.routing.count_condition();
                false
            })
        })
    }
}
