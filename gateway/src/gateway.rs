//! The gateway's state, and the way of one request through its steps.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, request::Parts};
use hyper::body::Body as HttpBody;
use jiff::Timestamp;
use parking_lot::RwLock;
use protocol::{openai::ErrorKind, snapshot::GatewaySnapshot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, error, info};

use crate::{
    account::{Accounting, Ending},
    authorize::{Caller, authorize},
    call::{Call, Operation},
    cost::cost,
    decode::{Decoded, decode},
    encode::{self, Body, Streaming},
    fault::Fault,
    forward::{Answer, Answered, Failed, Forward, Refusal, forward},
    ledger::{Ledger, LedgerError},
    limits::{self, Need, Registry},
    mcp::{self, Hub},
    metrics::Metrics,
    models, provider,
    route::route,
    table::{InvalidSnapshot, Lasting, Route, Table},
    upstream::{self, Upstream},
    usage,
};

/// How much the gateway takes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of a request's body.
    pub(crate) body_bytes_max: usize,
    /// Requests in progress.
    pub(crate) requests_max: usize,
}

/// The gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// `None` until the first snapshot came.
    table: RwLock<Option<Arc<Table>>>,
    lasting: Lasting,
    upstream: Upstream,
    ledger: Arc<Ledger>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    permits: Arc<Semaphore>,
    /// What gateways to tools share.
    pub(crate) mcp: Arc<Hub>,
    /// How much the gateway takes on.
    pub(crate) limits: Limits,
}

impl Gateway {
    /// A gateway that knows no routes yet.
    pub(crate) fn new(ledger: Arc<Ledger>, limits: Limits) -> Self {
        let spent = Arc::clone(&ledger);
        let lasting = Lasting {
            meters: Registry::new(Box::new(move |route, per, since| {
                spent.spent(route, per, since)
            })),
            ..Lasting::default()
        };
        let upstream = upstream::client();
        let metrics: Arc<Metrics> = Arc::default();
        Self {
            table: RwLock::new(None),
            lasting,
            mcp: Arc::new(Hub::new(
                upstream.clone(),
                Arc::default(),
                Arc::clone(&metrics),
                Arc::clone(&ledger),
            )),
            upstream,
            ledger,
            metrics,
            permits: Arc::new(Semaphore::new(limits.requests_max)),
            limits,
        }
    }

    /// Takes a snapshot into use; requests in progress go on with the one that they started with.
    ///
    /// # Errors
    /// [`InvalidSnapshot`]; the one in use stays.
    pub(crate) fn apply(&self, snapshot: &GatewaySnapshot) -> Result<(), InvalidSnapshot> {
        let table = Arc::new(Table::compile(snapshot, &self.lasting)?);
        info!(
            version = table.version,
            routes = table.routes.len(),
            "snapshot applied"
        );
        *self.table.write() = Some(table);
        self.metrics.count_snapshot();
        Ok(())
    }

    /// Whether there is something to route by.
    ///
    /// A ledger that takes no rows does not make the gateway unready: clients are better off with an honest 503 than
    /// without an answer, and the next request is what finds out that the disk has room again.
    pub(crate) fn is_ready(&self) -> bool {
        self.table.read().is_some()
    }

    /// The text that Prometheus reads.
    pub(crate) fn render_metrics(&self) -> String {
        self.metrics.set_ledger(self.ledger.is_healthy());
        self.metrics.render()
    }

    /// The table in use.
    ///
    /// # Errors
    /// There is none yet.
    pub(crate) fn table(&self) -> Result<Arc<Table>, Fault> {
        let table = self.table.read().clone();
        table.ok_or_else(|| {
            Fault::new(
                ErrorKind::Unavailable,
                "The gateway has no routes yet. Try again later.",
            )
        })
    }

    /// `GET /v1/models`.
    ///
    /// # Errors
    /// What the caller is told in place of the list.
    pub(crate) fn list_models(&self, headers: &HeaderMap) -> Result<Response<Body>, Fault> {
        let table = self.table()?;
        models::list(&table, &authorize(&table, headers, Timestamp::now()))
    }

    /// `GET /v1/models/NAME`.
    ///
    /// # Errors
    /// What the caller is told in place of the model.
    pub(crate) fn get_model(
        &self,
        headers: &HeaderMap,
        name: &str,
    ) -> Result<Response<Body>, Fault> {
        let table = self.table()?;
        models::get(&table, &authorize(&table, headers, Timestamp::now()), name)
    }

    /// `GET /v1/usage`.
    ///
    /// # Errors
    /// What the caller is told in place of the totals.
    pub(crate) async fn usage(&self, headers: &HeaderMap) -> Result<Response<Body>, Fault> {
        let table = self.table()?;
        usage::usage(&self.ledger, &authorize(&table, headers, Timestamp::now())).await
    }

    /// `GET /.well-known/oauth-protected-resource/PATH`: where tokens are had for the tools below a path.
    ///
    /// # Errors
    /// No tokens are issued for the path.
    pub(crate) fn resource_metadata(&self, head: &Parts) -> Result<Response<Body>, Fault> {
        mcp::metadata(&*self.table()?, head).ok_or_else(|| {
            let message = "No tokens are issued for this path.";
            Fault::new(ErrorKind::NotFound, message)
        })
    }

    /// One call of a model, step by step.
    ///
    /// # Errors
    /// What the caller is told in place of an answer.
    pub(crate) async fn call<B>(
        &self,
        id: &str,
        operation: Operation,
        headers: &HeaderMap,
        body: B,
    ) -> Result<Response<Body>, Fault>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let call = Call::new(id.to_owned(), operation);
        let permit = self.admit()?;
        let table = self.table()?;
        let caller = authorize(&table, headers, Timestamp::now());
        if let Caller::Nobody(why) = &caller
            && !table.has_open_route
        {
            // Nothing is open: the body of somebody unknown is not even read.
            return Err(why.fault());
        }
        let decoded = decode(operation, body, self.limits.body_bytes_max).await?;
        let route = Arc::clone(route(&table, &caller, &decoded.fields.model)?);
        let mut accounting = self.open_account(&call, &caller, &route, &decoded)?;
        if !self.ledger.is_healthy() {
            // Asked before the upstream is: an answer that could not be accounted for would be wasted.
            accounting
                .begin()
                .await
                .map_err(|error| unaccounted(&error))?;
        }
        let request = Forward {
            upstream: &self.upstream,
            metrics: &self.metrics,
            route: &route,
            call: &call,
            decoded: &decoded,
        };
        match forward(request).await {
            Ok(answered) => {
                answer(
                    &call,
                    &route,
                    &decoded,
                    answered,
                    Held { accounting, permit },
                )
                .await
            }
            Err(failed) => fail(&call, &route, failed, accounting).await,
        }
    }

    /// A place among the requests in progress.
    ///
    /// # Errors
    /// All are taken.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            Fault::new(
                ErrorKind::Unavailable,
                "The gateway has too many requests in progress. Try again later.",
            )
        })
    }

    /// Reserves what the request may need of the route's limits, and opens its account.
    fn open_account(
        &self,
        call: &Call,
        caller: &Caller,
        route: &Route,
        decoded: &Decoded,
    ) -> Result<Accounting, Fault> {
        let guess = decoded.guess();
        let costs = route
            .targets
            .iter()
            .map(|target| cost(&target.prices, guess));
        let need = Need {
            tokens: guess.total(),
            cost: costs.max().unwrap_or_default(),
        };
        let over = |reached: &limits::Reached| self.metrics.count_limit(&route.id, reached);
        let reservation = limits::reserve(&route.rules, caller, need, call.started_at, over)
            .map_err(|reached| reached.fault())?;
        let (ledger, metrics) = (Arc::clone(&self.ledger), Arc::clone(&self.metrics));
        let mut accounting =
            Accounting::new(call, caller, route, &decoded.fields.model, ledger, metrics);
        accounting.hold(reservation, guess);
        Ok(accounting)
    }
}

/// What a request holds until its answer is complete.
struct Held {
    accounting: Accounting,
    permit: OwnedSemaphorePermit,
}

/// Passes an answer on, once the ledger knows of it.
async fn answer(
    call: &Call,
    route: &Route,
    decoded: &Decoded,
    answered: Answered,
    held: Held,
) -> Result<Response<Body>, Fault> {
    let Held {
        mut accounting,
        permit,
    } = held;
    let target = &route.targets[answered.target];
    accounting.answered_by(target);
    if let Some((prediction, sent)) = answered.prediction {
        accounting.expect(prediction, sent);
    }
    let limits = accounting.limit_headers().clone();
    let mut response = match answered.answer {
        Answer::Whole {
            status,
            content_type,
            body,
        } => {
            accounting.count(provider::openai::decode_response(&body));
            accounting
                .finish(Ending::Complete)
                .await
                .map_err(|error| unaccounted(&error))?;
            encode::whole(status, content_type, body)
        }
        Answer::Stream { first, rest, lease } => {
            accounting.note_stream();
            accounting
                .begin()
                .await
                .map_err(|error| unaccounted(&error))?;
            let options = decoded.fields.stream_options.as_ref();
            encode::stream(Streaming {
                first,
                rest,
                lease,
                accounting,
                operation: call.operation,
                shows_usage: options.is_some_and(|options| options.include_usage),
                idle: Duration::from_millis(route.timeouts.stream_idle_millis),
                deadline: call.started + Duration::from_millis(route.timeouts.request_millis),
                _permit: permit,
            })
        }
    };
    response.headers_mut().extend(limits);
    Ok(response)
}

/// Tells why there is no answer, once the ledger knows of it.
async fn fail(
    call: &Call,
    route: &Route,
    failed: Failed,
    mut accounting: Accounting,
) -> Result<Response<Body>, Fault> {
    if let Some(target) = failed.target.map(|target| &route.targets[target]) {
        accounting.answered_by(target);
    }
    let status = match &failed.refusal {
        Refusal::Fault(fault) => fault.kind.status(),
        Refusal::Upstream(error) => error.status.as_u16(),
    };
    if let Err(error) = accounting.finish(Ending::Failed(status)).await {
        // Nothing was given away: the client is told of the failure, not of the ledger's.
        error!(%error, "a failed request is not in the ledger");
    }
    match failed.refusal {
        Refusal::Fault(fault) => Err(fault),
        refusal @ Refusal::Upstream(_) => Ok(encode::refusal(refusal, call.operation.surface())),
    }
}

/// The ledger's rule: no answer that is not accounted for.
fn unaccounted(error: &LedgerError) -> Fault {
    // The ledger's writer has told people, once; this would come with every request.
    debug!(%error, "an answer is refused, since it cannot be accounted for");
    Fault::new(
        ErrorKind::Unavailable,
        "The request cannot be accounted for now. Try again later.",
    )
}
