//! Lines of batches that a provider runs as a batch of its own, for the price of batches.
//!
//! Which lines these are is decided once and is on disk before anything is sent. The provider's batch carries a tag: after
//! a crash between asking for it and knowing of it, it is looked for by the tag before another one is asked for. An answer
//! is in the ledger, under an id that is the same each time, before it is written to the results.

mod answers;
mod part;
mod plan;
mod remote;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::try_join_all;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::{part::Part, plan::Plan};
use super::{
    input::{self, Line, Rules},
    line::Answer,
    operation,
    results::{Finding, Results},
    runner::End,
};
use crate::{
    call::Operation,
    fault::Fault,
    gateway::{Gateway, Waiting},
    objects::{Batch, Handover, OpenBatch, unusable},
};

/// The shortest wait before a provider is asked again.
const WAIT_MIN: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1000 });
/// The first wait of a provider that says nothing of it; it grows by half with each.
const WAIT_FIRST: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 5000 });
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How long a provider may take to end a batch early.
const CANCEL_PATIENCE: Duration = Duration::from_secs(900);

/// What rings when a batch is to end.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    pub(super) stop: CancellationToken,
    pub(super) shutdown: CancellationToken,
    pub(super) expires_at: i64,
}

/// The lines of a batch that providers run.
pub(super) struct Handed {
    gateway: Arc<Gateway>,
    batch: Batch,
    operation: Operation,
    signals: Signals,
    parts: Vec<Part>,
    /// All of these lines.
    pub(super) ids: HashSet<String>,
}

/// A batch, and where its lines and results are.
pub(super) struct Of<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) open: &'a OpenBatch,
    pub(super) rules: Rules,
    pub(super) results: &'a Arc<Mutex<Results>>,
    pub(super) signals: Signals,
}

#[derive(Deserialize)]
struct Named {
    model: String,
}

impl Signals {
    /// Waits; why the batch is to end, if it is.
    async fn pause(&self, wait: Duration) -> Option<End> {
        let left = self.expires_at - Timestamp::now().as_second();
        let Some(left) = u64::try_from(left).ok().filter(|left| 0 < *left) else {
            return Some(End::Expired);
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Some(End::Shutdown),
            () = self.stop.cancelled() => Some(End::Cancelled),
            () = tokio::time::sleep(wait.min(Duration::from_secs(left))) => None,
        }
    }
}

impl Handed {
    /// The lines that providers run: as was decided, or else as the routes say now.
    ///
    /// # Errors
    /// Rows or files cannot be used now.
    pub(super) async fn prepare(of: Of<'_>) -> Result<Self, Fault> {
        let objects = &of.gateway.objects;
        let operation = operation(&of.open.batch.endpoint).unwrap_or_default();
        let mut waiting = HashMap::new();
        let mut handovers = objects.handovers(&of.open.batch.id).await?;
        let is_decided = !handovers.is_empty();
        // Without routes nothing is decided, and nobody is known for whom lines are run.
        let hands_over = tokio::select! {
            hands_over = of.gateway.hands_over() => hands_over,
            () = of.signals.shutdown.cancelled() => return Ok(of.nothing(operation)),
        };
        if !is_decided && can_be_handed(operation) && hands_over {
            (handovers, waiting) = of.decide(operation).await?;
        }
        let mut parts = Vec::new();
        let mut ids = HashSet::new();
        for (place, handover) in handovers.into_iter().enumerate() {
            let path = objects.part(&of.open.batch.id, place);
            let lines = spawn_blocking(move || plan::lines_of(&path)).await;
            let lines = lines.map_err(std::io::Error::other).flatten();
            let lines = lines.map_err(|error| unusable(&error))?;
            ids.extend(lines.iter().cloned());
            parts.push(Part::new(place, handover, lines));
        }
        if is_decided {
            waiting = of.wait_again(operation, &ids).await?;
        }
        for part in &mut parts {
            part.wait_for(&mut waiting);
        }
        Ok(Self {
            gateway: Arc::clone(of.gateway),
            batch: of.open.batch.clone(),
            operation,
            signals: of.signals,
            parts,
            ids,
        })
    }

    /// Has the providers run their lines, and writes the answers; why it ended.
    ///
    /// # Errors
    /// Rows, files or the ledger cannot be used now; it can be begun again.
    pub(super) async fn run(&mut self, results: &Arc<Mutex<Results>>) -> Result<End, Fault> {
        let context = part::Context {
            gateway: &self.gateway,
            batch: &self.batch,
            operation: self.operation,
            signals: &self.signals,
            results,
        };
        let ends = self.parts.iter_mut().map(|part| part.run(&context));
        let ends = try_join_all(ends).await?;
        Ok(ends.into_iter().fold(End::Done, End::and))
    }

    /// Forgets what was handed over, once the batch has ended.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub(super) async fn forget(&self) -> Result<(), Fault> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let objects = &self.gateway.objects;
        objects
            .forget_handovers(&self.batch.id, self.parts.len())
            .await
    }
}

/// What batch APIs of providers take.
const fn can_be_handed(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Chat
            | Operation::Completion
            | Operation::Embedding
            | Operation::Response
            | Operation::Moderation
    )
}

impl Of<'_> {
    /// No lines, while the gateway ends.
    fn nothing(&self, operation: Operation) -> Handed {
        Handed {
            gateway: Arc::clone(self.gateway),
            batch: self.open.batch.clone(),
            operation,
            signals: self.signals.clone(),
            parts: Vec::new(),
            ids: HashSet::new(),
        }
    }

    /// Decides which lines providers run, and writes that down.
    async fn decide(
        &self,
        operation: Operation,
    ) -> Result<(Vec<Handover>, HashMap<String, Waiting>), Fault> {
        let objects = &self.gateway.objects;
        let batch = &self.open.batch;
        let mut plan = Plan::new();
        let mut waiting = HashMap::new();
        let mut refused = Vec::new();
        let path = objects.path(&batch.input_file_id);
        let mut lines = input::lines(&path, &self.rules);
        while let Some(line) = lines.recv().await {
            let Line { custom_id, body } = line.map_err(|error| unusable(&error))?;
            if self.results.lock().done.contains(&custom_id) {
                continue;
            }
            let enlisted = self.gateway.enlist(&self.open.key, operation, body).await;
            let enlisted = match enlisted {
                Ok(Some(enlisted)) => enlisted,
                Ok(None) => continue,
                // Only who would run it says what is wrong with it; what it may not spend is known already.
                Err(fault) if fault.kind.status() == 429 => {
                    let request_id = answers::request_id(batch, &custom_id);
                    let answer = Answer {
                        status: 429,
                        request_id,
                        body: answers::failed(429, &fault.message).1,
                    };
                    refused.push((custom_id, Finding::Answered(answer)));
                    continue;
                }
                Err(_) => continue,
            };
            let Some(target) = enlisted.route.targets.get(enlisted.target) else {
                continue;
            };
            let of = [&*enlisted.route.id, &*target.name, &*enlisted.model];
            let url = target.provider.batch_endpoint(&batch.endpoint);
            let path = |part| objects.part(&batch.id, part);
            let has_room = plan.add(of, (&custom_id, url), &enlisted.body, path);
            if has_room.map_err(|error| unusable(&error))? {
                waiting.insert(custom_id, enlisted.waiting);
            }
        }
        write(self.results, refused).await?;
        let written = spawn_blocking(move || plan.finish()).await;
        let written = written.map_err(std::io::Error::other).flatten();
        let written = written.map_err(|error| unusable(&error))?;
        let handovers = written.into_iter().map(|(route, target)| Handover {
            route,
            target,
            ..Handover::default()
        });
        let handovers: Vec<Handover> = handovers.collect();
        objects
            .put_handovers(&batch.id, 0, handovers.clone())
            .await?;
        if !handovers.is_empty() {
            let (parts, lines) = (handovers.len(), waiting.len());
            info!(
                batch = batch.id,
                parts, lines, "lines of a batch go to their provider"
            );
        }
        Ok((handovers, waiting))
    }

    /// For whom lines are run that were handed over before.
    async fn wait_again(
        &self,
        operation: Operation,
        ids: &HashSet<String>,
    ) -> Result<HashMap<String, Waiting>, Fault> {
        let mut waiting = HashMap::new();
        let path = self.gateway.objects.path(&self.open.batch.input_file_id);
        let mut lines = input::lines(&path, &self.rules);
        while let Some(line) = lines.recv().await {
            let Line { custom_id, body } = line.map_err(|error| unusable(&error))?;
            if !ids.contains(&custom_id) || self.results.lock().done.contains(&custom_id) {
                continue;
            }
            let named = serde_json::from_slice::<Named>(&body);
            let model = named.map_or(String::new(), |named| named.model);
            let key = &self.open.key;
            let enlisted = self.gateway.enlist(key, operation, body).await;
            let line = match enlisted {
                Ok(Some(enlisted)) => enlisted.waiting,
                // It runs already, whatever was changed since.
                Ok(None) | Err(_) => Waiting::bare(key, model),
            };
            waiting.insert(custom_id, line);
        }
        Ok(waiting)
    }
}

/// Writes what was found out about lines.
async fn write(results: &Arc<Mutex<Results>>, lines: Vec<(String, Finding)>) -> Result<(), Fault> {
    if lines.is_empty() {
        return Ok(());
    }
    let results = Arc::clone(results);
    let written = spawn_blocking(move || results.lock().append(lines)).await;
    let written = written.map_err(std::io::Error::other).flatten();
    written.map_err(|error| unusable(&error))
}
