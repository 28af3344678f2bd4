//! The gateway's state, and who is let in.

mod answer;
mod copy;
mod enlist;
mod passage;
mod pick;
mod talk;
mod waiting;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use hyper::body::Body as HttpBody;
use jiff::Timestamp;
use parking_lot::RwLock;
use protocol::{openai::ErrorKind, snapshot::GatewaySnapshot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::info;

pub(crate) use self::enlist::{Ran, Waiting};
use self::{passage::Admitted, waiting::Room};
use crate::{
    a2a::Desk,
    admin::AdminKey,
    attribution::Attribution,
    authorize::{Caller, Unauthorized, authorize, bearer},
    call::{Call, Operation, Surface},
    credential::Tokens,
    decode::{Asked, Spill, decode, is_form, read_form},
    demand,
    encode::Body,
    fault::Fault,
    jwt,
    leases::Fleet,
    ledger::Ledger,
    limits::{Registry, Scope},
    mcp::Hub,
    metrics::Metrics,
    mirror::Copies,
    models,
    objects::Objects,
    observe::{Known, Observers},
    people::People,
    realtime::Talks,
    rpc::account::Books,
    table::{InvalidSnapshot, Lasting, Table},
    upstream::{self, Uploads, Upstream},
    usage,
};

/// How much the gateway takes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of a request's body.
    pub(crate) body_bytes_max: usize,
    /// Requests in progress.
    pub(crate) requests_max: usize,
    /// How long a stream is silent while its request waits.
    pub(crate) keep_alive: Duration,
}

/// Who may use the gateway, and who says so.
#[derive(Debug)]
pub(crate) struct Governance {
    /// What outlives tables.
    pub(crate) lasting: Arc<Lasting>,
    /// The replicas that share limits.
    pub(crate) fleet: Arc<Fleet>,
    /// Keys, teams, users and tags that are made at run time.
    pub(crate) people: Arc<People>,
    /// The key of the admin API; without one there is none.
    pub(crate) admin: Option<AdminKey>,
}

/// Where the gateway keeps what is not for the ledger.
#[derive(Debug)]
pub(crate) struct Storage {
    /// Forms whose model comes late.
    pub(crate) spill: Spill,
    /// Files and batches.
    pub(crate) objects: Arc<Objects>,
}

impl Storage {
    /// In a data folder.
    ///
    /// # Errors
    /// The folder cannot be used, in words.
    pub(crate) fn open(
        data_dir: &Path,
        form_bytes_max: u64,
        files_bytes_max: u64,
    ) -> Result<Self, String> {
        Ok(Self {
            spill: Spill::new(data_dir, form_bytes_max),
            objects: Arc::new(Objects::open(data_dir, files_bytes_max)?),
        })
    }
}

/// The gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// `None` until the first snapshot came.
    table: RwLock<Option<Arc<Table>>>,
    /// What outlives tables.
    pub(crate) lasting: Arc<Lasting>,
    /// The replicas that share limits.
    pub(crate) fleet: Arc<Fleet>,
    /// Keys, teams, users and tags that are made at run time.
    pub(crate) people: Arc<People>,
    /// The key of the admin API, if there is one.
    pub(crate) admin: Option<AdminKey>,
    upstream: Upstream,
    uploads: Uploads,
    /// The client for WebSockets, which need HTTP/1.1.
    socket_upstream: Upstream,
    /// The conversations that are held.
    pub(crate) talks: Arc<Talks>,
    spill: Spill,
    /// Files and batches.
    pub(crate) objects: Arc<Objects>,
    /// The ledger.
    pub(crate) ledger: Arc<Ledger>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    permits: Arc<Semaphore>,
    /// Tells those who wait of each new table.
    changes: watch::Sender<()>,
    /// Where requests wait.
    room: Room,
    /// The copies of requests that are on their way.
    pub(crate) copies: Copies,
    /// What requests for tools share.
    pub(crate) mcp: Arc<Hub>,
    /// What requests for agents share.
    pub(crate) a2a: Arc<Desk>,
    /// How much the gateway takes on.
    pub(crate) limits: Limits,
    /// Who is told of requests.
    observers: Arc<Observers>,
}

impl Gateway {
    /// A gateway that knows no routes yet.
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        governance: Governance,
        storage: Storage,
        limits: Limits,
    ) -> Self {
        let Storage { spill, objects } = storage;
        let Governance {
            lasting,
            fleet,
            people,
            admin,
        } = governance;
        let upstream = upstream::client();
        let metrics: Arc<Metrics> = Arc::default();
        let tokens: Arc<Tokens> = Arc::default();
        let books = |prefix| {
            let shared = (Arc::clone(&lasting), Arc::clone(&fleet));
            Books::new(Arc::clone(&ledger), Arc::clone(&metrics), shared, prefix)
        };
        Self {
            table: RwLock::new(None),
            mcp: Arc::new(Hub::new(
                upstream.clone(),
                Arc::clone(&tokens),
                books("gateway_mcp"),
            )),
            a2a: Arc::new(Desk::new(upstream.clone(), tokens, books("gateway_a2a"))),
            lasting,
            fleet,
            people,
            admin,
            upstream,
            uploads: upstream::client(),
            socket_upstream: upstream::http1_client(),
            talks: Arc::default(),
            spill,
            objects,
            ledger,
            metrics,
            permits: Arc::new(Semaphore::new(limits.requests_max)),
            changes: watch::Sender::new(()),
            room: Room::default(),
            copies: Copies::default(),
            limits,
            observers: Arc::default(),
        }
    }

    /// The gateway with those who are told of requests.
    #[must_use]
    pub(crate) fn observed_by(self, observers: Observers) -> Self {
        self.metrics.show(&observers);
        Self {
            observers: Arc::new(observers),
            ..self
        }
    }

    /// Takes a snapshot into use; requests in progress go on with the one that they started with.
    ///
    /// # Errors
    /// [`InvalidSnapshot`]; the one in use stays.
    pub(crate) fn apply(&self, snapshot: &GatewaySnapshot) -> Result<(), InvalidSnapshot> {
        let table = Arc::new(Table::compile(snapshot, &self.lasting)?);
        let followed = self.fleet.follow(snapshot.peers.as_ref());
        followed.map_err(|error| InvalidSnapshot::Peers {
            reason: error.to_string(),
        })?;
        info!(
            version = table.version,
            routes = table.routes.len(),
            "snapshot applied"
        );
        *self.table.write() = Some(table);
        self.changes.send_replace(());
        self.metrics.count_snapshot();
        Ok(())
    }

    /// Tells of each new table.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Models that have replicas only while they are wanted.
    pub(crate) fn demands(&self) -> &demand::Registry {
        &self.lasting.demands
    }

    /// The client for upstreams.
    pub(crate) const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The client for bodies that come while they are sent.
    pub(crate) const fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Whether there is something to route by.
    ///
    /// A ledger that takes no rows does not make the gateway unready: clients are better off with an honest 503 than
    /// without an answer, and the next request is what finds out that the disk has room again.
    pub(crate) fn is_ready(&self) -> bool {
        self.table.read().is_some()
    }

    /// Whether nothing of any request is left.
    #[cfg(test)]
    pub(crate) fn is_at_rest(&self) -> bool {
        let Ok(table) = self.table() else {
            return true;
        };
        let targets = table.routes.iter().flat_map(|route| &route.targets);
        let mut endpoints = targets.flat_map(|target| &target.endpoints);
        let places = self.permits.available_permits();
        places == self.limits.requests_max && endpoints.all(|endpoint| endpoint.in_flight() == 0)
    }

    /// The text that Prometheus reads.
    pub(crate) fn render_metrics(&self) -> String {
        self.metrics.render(|metrics| {
            metrics.set_ledger(self.ledger.is_healthy());
            metrics.set_missed(&self.observers);
            let Ok(table) = self.table() else { return };
            metrics.routing.set_endpoints(&table, Instant::now());
            metrics.pools.set(&table, Instant::now());
            if let Some(litellm) = &self.observers.litellm {
                litellm.refresh(&Known {
                    table: &table,
                    people: &self.people,
                    parties: &self.lasting.parties,
                });
            }
        })
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
    pub(crate) fn list_models(
        &self,
        headers: &HeaderMap,
        surface: Surface,
    ) -> Result<Response<Body>, Fault> {
        let table = self.table()?;
        let caller = self.authorize(&table, headers);
        models::list(&table, &caller, surface)
    }

    /// `GET /v1/models/NAME`.
    ///
    /// # Errors
    /// What the caller is told in place of the model.
    pub(crate) fn get_model(
        &self,
        headers: &HeaderMap,
        name: &str,
        surface: Surface,
    ) -> Result<Response<Body>, Fault> {
        let table = self.table()?;
        let caller = self.authorize(&table, headers);
        models::get(&table, &caller, name, surface)
    }

    /// `GET /v1/usage`.
    ///
    /// # Errors
    /// What the caller is told in place of the totals.
    pub(crate) async fn usage(&self, headers: &HeaderMap) -> Result<Response<Body>, Fault> {
        let table = self.table()?;
        usage::usage(&self.ledger, &self.authorize(&table, headers)).await
    }

    /// One call of a model, step by step.
    ///
    /// # Errors
    /// What the caller is told in place of an answer.
    pub(crate) async fn call<B>(
        self: &Arc<Self>,
        id: &str,
        asked: Asked<'_>,
        headers: HeaderMap,
        body: B,
    ) -> Result<Response<Body>, Fault>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut call = Call::new(id.to_owned(), asked.operation);
        call.trace = self.observers.trace(&headers);
        let permit = self.admit()?;
        let table = self.table()?;
        let caller = self.welcome(&table, &headers).await?;
        let content_type = headers.get(header::CONTENT_TYPE);
        let (decoded, upload) = if asked.operation.takes_form() && is_form(content_type) {
            let (decoded, upload) = read_form(asked, content_type, body, &self.spill).await?;
            (decoded, Some(upload))
        } else {
            let decoded = decode(asked, body, self.limits.body_bytes_max).await?;
            (decoded, None)
        };
        let attribution = Attribution::of(&caller, &headers, &decoded.fields)?;
        let admitted = Admitted {
            attribution,
            call,
            table,
            caller,
            headers,
            decoded,
            upload,
            invitation: None,
            renamed: None,
            permit,
        };
        Box::pin(Arc::clone(self).pass(admitted)).await
    }

    /// Who calls a model.
    ///
    /// # Errors
    /// Somebody unknown, while nothing is open: such a request's body is not even read.
    pub(crate) async fn welcome(
        &self,
        table: &Table,
        headers: &HeaderMap,
    ) -> Result<Caller, Fault> {
        let caller = self.authenticate(table, headers).await;
        match &caller {
            Caller::Nobody(why) if !table.has_open_route => Err(why.fault()),
            Caller::Nobody(_) | Caller::Key(_) => Ok(caller),
        }
    }

    /// Who calls, outside of a call of a model.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Caller {
        match self.table() {
            Ok(table) => self.authorize(&table, headers),
            Err(_) => Caller::Nobody(Unauthorized::Missing),
        }
    }

    /// One call of a model for a key that is known by its id, as for a line of a batch. It waits for its place.
    ///
    /// # Errors
    /// What the caller is told in place of an answer.
    pub(crate) async fn call_for(
        self: &Arc<Self>,
        key: &str,
        id: &str,
        operation: Operation,
        body: Bytes,
    ) -> Result<Response<Body>, Fault> {
        let call = Call {
            is_batched: true,
            ..Call::new(id.to_owned(), operation)
        };
        let admitted = self.admitted_for(key, call, body).await?;
        Box::pin(Arc::clone(self).pass(admitted)).await
    }

    /// The account of the key that a request comes with.
    ///
    /// # Errors
    /// It comes with none that is valid.
    pub(crate) fn account(&self, headers: &HeaderMap) -> Result<String, Fault> {
        let table = self.table()?;
        match self.authorize(&table, headers) {
            Caller::Nobody(why) => Err(why.fault()),
            caller @ Caller::Key(_) => Ok(caller.account().to_owned()),
        }
    }

    /// Bytes that a form may have.
    pub(crate) const fn form_bytes_max(&self) -> u64 {
        self.spill.form_bytes_max()
    }

    /// Bytes that a body of JSON may have.
    pub(crate) const fn body_bytes_max(&self) -> usize {
        self.limits.body_bytes_max
    }

    /// Who calls a model. A token of a key that is not known makes the gateway look for new ones of the issuer's.
    async fn authenticate(&self, table: &Table, headers: &HeaderMap) -> Caller {
        let caller = self.authorize(table, headers);
        if !matches!(&caller, Caller::Nobody(Unauthorized::UnknownSigner)) {
            return caller;
        }
        if let Some(issuer) = &self.people.issuer {
            issuer.refresh().await;
        }
        jwt::refresh_for(&table.issuers, bearer(headers).unwrap_or_default()).await;
        self.authorize(table, headers)
    }

    /// Who calls, by this table.
    pub(crate) fn authorize(&self, table: &Table, headers: &HeaderMap) -> Caller {
        authorize(table, &self.people, headers, Timestamp::now())
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
}

impl Lasting {
    /// What outlives tables, with limits that begin with what the ledger knows and are shared with other replicas.
    pub(crate) fn new(ledger: &Arc<Ledger>, fleet: &Arc<Fleet>) -> Arc<Self> {
        let spent = Arc::clone(ledger);
        let spent = move |scope: &Scope, per, since| spent.spent(scope, per, since);
        Arc::new(Self {
            meters: Registry::of(Box::new(spent), Arc::clone(fleet)),
            ..Self::default()
        })
    }
}
