//! The way of a request that another gateway sends: to the replica that is picked for it, and no further.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::Full;
use protocol::openai::ErrorKind;
use tokio::sync::OwnedSemaphorePermit;
use tracing::error;

use super::{Gateway, answer::unaccounted, passage::Admitted};
use crate::{
    account::{Accounting, Ending},
    attribution::Attribution,
    call::{Call, request_id},
    condition::Facts,
    decode::{Asked, decode},
    endpoint_picker::{Picked, Progress, Subset},
    fault::Fault,
    forward::{Chosen, Failed, Refusal, Timing, pick},
    route::Wish,
    session::session,
    table::Route,
};

impl Gateway {
    /// Picks the endpoint of a request with these headers and this body; its limits are reserved and its row is open then.
    ///
    /// # Errors
    /// What the client is told in place of an answer.
    pub(crate) async fn pick_endpoint(
        self: &Arc<Self>,
        asked: Asked<'_>,
        (headers, body): (HeaderMap, Bytes),
        subset: &Subset,
        permit: OwnedSemaphorePermit,
    ) -> Result<Picked, Fault> {
        let mut admitted = self.take_in(asked, (headers, body), permit).await?;
        let facts = Facts::where_asked(&admitted);
        let mut route = self.route(&admitted, facts.as_ref(), &admitted.decoded.fields.model)?;
        if route.guards.is_some() {
            // Better no answer than one that nobody has looked at.
            let message = "This model has guards, which cannot look at requests of other gateways.";
            return Err(Fault::new(ErrorKind::PermissionDenied, message));
        }
        if let Some(prompts) = &route.prompts {
            prompts.put_in(&mut admitted.decoded)?;
        }
        let mut accounting = self.open_account(&admitted, &route).await?;
        match self
            .choose(
                &mut admitted,
                &mut route,
                facts.as_ref(),
                subset,
                &mut accounting,
            )
            .await
        {
            Ok(chosen) => self.send_there(admitted, route, chosen, accounting).await,
            Err(failed) => Err(give_up(failed, accounting).await),
        }
    }

    /// A request as one of our own clients'.
    async fn take_in(
        &self,
        asked: Asked<'_>,
        (headers, body): (HeaderMap, Bytes),
        permit: OwnedSemaphorePermit,
    ) -> Result<Admitted, Fault> {
        let mut call = Call::new(request_id(), asked.operation);
        call.trace = self.observers.trace(&headers);
        let table = self.table()?;
        let caller = self.welcome(&table, &headers).await?;
        let decoded = decode(asked, Full::new(body), self.limits.body_bytes_max).await?;
        let attribution = Attribution::of(&caller, &headers, &decoded.fields)?;
        Ok(Admitted {
            attribution,
            call,
            table,
            caller,
            headers,
            decoded,
            upload: None,
            invitation: None,
            renamed: None,
            permit,
        })
    }

    /// Waits for the request's turn, and picks.
    async fn choose(
        &self,
        admitted: &mut Admitted,
        route: &mut Arc<Route>,
        facts: Option<&Facts>,
        subset: &Subset,
        accounting: &mut Accounting,
    ) -> Result<Chosen, Failed> {
        if route.is_on_demand {
            route.ask_for_replicas(&self.barred(route, facts));
        }
        let turn = self.wait(admitted, route).await?;
        accounting.hold_turn(turn);
        let barred = self.barred(route, facts);
        let (caller, headers) = (&admitted.caller, &admitted.headers);
        let session = |source| session(source, caller, headers, &admitted.decoded);
        let wish = Wish {
            session: route.session.as_ref().and_then(session),
            barred: &barred,
            guess: admitted.decoded.guess(),
        };
        let may_be = |destination: SocketAddr| {
            let subset = subset.as_ref();
            subset.is_none_or(|subset| subset.contains(&destination))
        };
        pick(self.forward(admitted, route, wish), may_be).await
    }

    /// Opens the request's row, and notes who has it.
    async fn send_there(
        self: &Arc<Self>,
        admitted: Admitted,
        route: Arc<Route>,
        chosen: Chosen,
        mut accounting: Accounting,
    ) -> Result<Picked, Fault> {
        let Chosen {
            target,
            endpoint,
            destination,
            lease,
            prediction,
            reservation,
            body,
        } = chosen;
        let sent = Instant::now();
        if let Some(target) = route.targets.get(target) {
            accounting.answered_by(&route, target, admitted.asked());
        }
        accounting.hold_besides(reservation);
        if let Some(prediction) = prediction {
            accounting.expect(prediction, sent);
        }
        accounting.note_timing(Timing {
            sent,
            waited: Duration::ZERO,
            endpoint,
        });
        let begun = accounting.begin().await;
        begun.map_err(|error| unaccounted(&error))?;
        self.copy(&route, &admitted);
        Ok(Picked {
            destination,
            body,
            progress: Progress {
                accounting,
                route,
                target,
                lease,
                operation: admitted.call.operation,
                sent,
                metrics: Arc::clone(&self.metrics),
                _permit: admitted.permit,
                answer: Default::default(),
            },
        })
    }
}

/// Why nobody was picked, once the ledger knows of it.
async fn give_up(failed: Failed, mut accounting: Accounting) -> Fault {
    let fault = match failed.refusal {
        Refusal::Fault(fault) => fault,
        // Nobody was asked, so that nobody has words of his own.
        Refusal::Upstream(_) => {
            let message = "No replica of this model can be picked. Try again later.";
            Fault::new(ErrorKind::Unavailable, message)
        }
    };
    let ending = Ending::Failed(fault.kind.status());
    if let Err(error) = accounting.finish(ending).await {
        error!(%error, "a request without an endpoint is not in the ledger");
    }
    fault
}
