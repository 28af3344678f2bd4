//! Lines of batches that a provider runs: checked and reserved for as any request, and accounted for when their answers
//! are here.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::Full;
use jiff::Timestamp;
use protocol::{openai::ErrorKind, snapshot::Batches};

use super::{Gateway, answer::unaccounted, passage::Admitted};
use crate::{
    account::{Accounting, Ending},
    attribution::Attribution,
    authorize::Caller,
    call::{Call, Operation},
    condition::Facts,
    cost::{cost, of_batches},
    decode::decode,
    fault::Fault,
    limits::{Need, Reservation},
    people::Key,
    provider::{Tokens, openai},
    table::Route,
};

/// A line that a provider runs.
#[derive(Debug)]
pub(crate) struct Enlisted {
    /// The route.
    pub(crate) route: Arc<Route>,
    /// The place of the target in it.
    pub(crate) target: usize,
    /// The model's name there.
    pub(crate) model: String,
    /// The body, as the provider is sent it.
    pub(crate) body: Bytes,
    /// For whom, until its answer is here.
    pub(crate) waiting: Waiting,
}

/// For whom a line is run, with what it holds of budgets.
#[derive(Debug)]
pub(crate) struct Waiting {
    caller: Caller,
    attribution: Attribution,
    /// The model that the client named.
    model: String,
    end_user: Option<String>,
    reservation: Reservation,
    guess: Tokens,
}

impl Waiting {
    /// What is known of a line whose key, route or budget is gone since it was handed over.
    pub(crate) fn bare(key: &str, model: String) -> Self {
        let key = Key {
            id: key.to_owned(),
            ..Key::default()
        };
        Self {
            caller: Caller::Key(Arc::new(key)),
            attribution: Attribution::default(),
            model,
            end_user: None,
            reservation: Reservation::default(),
            guess: Tokens::default(),
        }
    }
}

/// What a provider answered to a line.
#[derive(Debug)]
pub(crate) struct Ran<'a> {
    /// The id of the request; a line that is accounted for again counts once.
    pub(crate) id: &'a str,
    /// What was asked for.
    pub(crate) operation: Operation,
    /// The route.
    pub(crate) route: &'a Route,
    /// The place of the target in it.
    pub(crate) target: usize,
    /// The status.
    pub(crate) status: u16,
    /// The answer.
    pub(crate) body: &'a [u8],
}

impl Gateway {
    /// What a request of the holder of a key brings along that is known by its id. It waits for its place.
    ///
    /// # Errors
    /// The key may do nothing now, or the body is not what the API asks for.
    pub(super) async fn admitted_for(
        &self,
        key: &str,
        call: Call,
        body: Bytes,
    ) -> Result<Admitted, Fault> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| Fault::new(ErrorKind::Unavailable, "The gateway ends."))?;
        let table = self.table()?;
        let declared = table.key_of(key).cloned();
        let key = declared.or_else(|| self.people.key_of(key));
        let caller = Caller::of(key, Timestamp::now());
        if let Caller::Nobody(why) = &caller {
            return Err(why.fault());
        }
        let body = Full::new(body);
        let decoded = decode(call.operation, body, self.limits.body_bytes_max).await?;
        let headers = HeaderMap::new();
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

    /// Waits for routes; whether a target of any has its provider run lines of batches.
    pub(crate) async fn hands_over(&self) -> bool {
        let mut changes = self.changes.subscribe();
        let table = loop {
            if let Ok(table) = self.table() {
                break table;
            }
            if changes.changed().await.is_err() {
                return false;
            }
        };
        let mut targets = table.routes.iter().flat_map(|route| &route.targets);
        targets.any(|target| target.batches == Batches::Provider)
    }

    /// A line of a batch for the provider that runs such lines; `None` if the gateway runs it itself.
    ///
    /// # Errors
    /// What the line is answered with in place of being run.
    pub(crate) async fn enlist(
        &self,
        key: &str,
        operation: Operation,
        body: Bytes,
    ) -> Result<Option<Enlisted>, Fault> {
        let call = Call {
            is_batched: true,
            ..Call::new(String::new(), operation)
        };
        let mut admitted = self.admitted_for(key, call, body).await?;
        let facts = Facts::where_asked(&admitted);
        let model = admitted.decoded.fields.model.clone();
        let route = self.route(&admitted, facts.as_ref(), &model)?;
        let barred = self.barred(&route, facts.as_ref());
        let mut targets = route.targets.iter().enumerate();
        let found = targets
            .find(|(place, target)| target.batches == Batches::Provider && !barred.contains(place));
        let Some((place, target)) = found.filter(|_| route.guards.is_none()) else {
            return Ok(None);
        };
        if let Some(prompts) = &route.prompts {
            prompts.put_in(&mut admitted.decoded)?;
        }
        let named = target.model_for(&route.models, &model);
        let Some(named) = named.ok().filter(|_| target.adapter(&model).is_none()) else {
            return Ok(None);
        };
        let provider = &target.provider;
        let encoded = provider.encode_request(&admitted.call, &admitted.decoded, &named);
        let Some(outgoing) = encoded.ok().filter(|outgoing| outgoing.back.is_none()) else {
            return Ok(None);
        };
        let guess = admitted.decoded.guess();
        let need = Need {
            tokens: guess.total(),
            cost: cost(&of_batches(&target.prices), guess),
        };
        let reservation = self.reserve_money(&admitted, &route, need).await?;
        let waiting = Waiting {
            caller: admitted.caller,
            attribution: admitted.attribution,
            model,
            end_user: admitted.decoded.fields.user,
            reservation,
            guess,
        };
        Ok(Some(Enlisted {
            body: outgoing.body,
            model: named.into_owned(),
            target: place,
            route: Arc::clone(&route),
            waiting,
        }))
    }

    /// Accounts for the answer to a line; returns when the ledger holds it.
    ///
    /// # Errors
    /// The ledger cannot be written now.
    pub(crate) async fn settle(&self, waiting: Waiting, ran: &Ran<'_>) -> Result<(), Fault> {
        let call = Call {
            is_batched: true,
            ..Call::new(ran.id.to_owned(), ran.operation)
        };
        let Waiting {
            caller,
            attribution,
            model,
            end_user,
            reservation,
            guess,
        } = waiting;
        let (ledger, metrics) = (Arc::clone(&self.ledger), Arc::clone(&self.metrics));
        let mut accounting = Accounting::new(&call, &caller, ran.route, &model, ledger, metrics);
        let asker = attribution.asker(&caller, &model);
        accounting.attribute(&asker, end_user.as_deref());
        accounting.hold(reservation, guess);
        accounting.watch(self.observers.watch(None));
        if let Some(target) = ran.route.targets.get(ran.target) {
            accounting.answered_by(ran.route, target, &model);
        }
        let ending = match ran.status {
            200..400 => {
                accounting.count(openai::decode_response(ran.body));
                Ending::Complete
            }
            status => Ending::Failed(status),
        };
        let finished = accounting.finish(ending).await;
        finished.map_err(|error| unaccounted(&error))
    }
}
