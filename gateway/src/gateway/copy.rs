//! Copies of requests for mirrors: sent beside the answer, read to their end, and accounted for by themselves.

use std::sync::Arc;

use http_body_util::BodyExt;

use super::{
    Gateway,
    answer::{Held, answer, fail},
    passage::Admitted,
};
use crate::{
    account::Accounting,
    attribution::Attribution,
    authorize::{Caller, Unauthorized},
    call::Call,
    forward::{Forward, forward},
    guard::Sessions,
    limits::Reservation,
    mirror::{self, Mirror, Place},
    route::Wish,
    table::Route,
};

impl Gateway {
    /// Sends a copy of the request to the route's mirror, if it is drawn. Nothing is waited for, and nobody learns of
    /// what becomes of it but the ledger and the metrics.
    pub(super) fn copy(self: &Arc<Self>, route: &Route, admitted: &Admitted) {
        let Some(mirror) = &route.mirror else {
            return;
        };
        if !mirror.draws(&mut rand::rng()) {
            return;
        }
        let body = admitted.upload.is_none();
        let body = body.then_some(admitted.decoded.body.len());
        let place = self.copies.place(admitted.call.operation, body);
        let word = place.as_ref().map_or_else(|why| why.word(), |_| "sent");
        self.metrics.routing.count_copy(&route.id, word);
        if let Ok(place) = place {
            let (copy, bytes) = copy_of(admitted, place);
            let (gateway, mirror) = (Arc::clone(self), Arc::clone(mirror));
            self.copies.send(async move {
                gateway.send_copy(&mirror, copy).await;
                drop(bytes);
            });
        }
    }

    /// Asks the mirror, and reads its answer to the end.
    async fn send_copy(self: Arc<Self>, mirror: &Mirror, copy: Admitted) {
        let route = &mirror.route;
        let guess = copy.decoded.guess();
        let (ledger, metrics) = (Arc::clone(&self.ledger), Arc::clone(&self.metrics));
        let (call, model) = (&copy.call, &copy.decoded.fields.model);
        let mut accounting = Accounting::new(call, &copy.caller, route, model, ledger, metrics);
        accounting.hold(Reservation::default(), guess);
        let wish = Wish {
            session: None,
            barred: &[],
            guess,
        };
        let request = Forward {
            answer_bytes_max: mirror::ANSWER_BYTES_MAX,
            ..self.forward(&copy, route, wish)
        };
        let response = match forward(request).await {
            Ok(answered) => {
                let held = Held {
                    accounting,
                    lead: None,
                    guards: Sessions::default(),
                };
                answer(copy, route, answered, held).await
            }
            Err(failed) => {
                let left = [Arc::clone(route)];
                fail(&copy, &left, failed, accounting).await
            }
        };
        let Ok(response) = response else {
            // Why, the row in the ledger says.
            return;
        };
        let mut body = response.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    }
}

/// The copy of a request, which nobody is accountable for, and what its bytes are held by.
fn copy_of(admitted: &Admitted, place: Place) -> (Admitted, tokio::sync::OwnedSemaphorePermit) {
    let Place { copy, bytes } = place;
    let id = format!("{}-mirror", admitted.call.id);
    let copy = Admitted {
        call: Call::new(id, admitted.call.operation),
        table: Arc::clone(&admitted.table),
        caller: Caller::Nobody(Unauthorized::Missing),
        headers: admitted.headers.clone(),
        decoded: admitted.decoded.clone(),
        upload: None,
        invitation: None,
        renamed: admitted.renamed.clone(),
        attribution: Attribution::default(),
        permit: copy,
    };
    (copy, bytes)
}
