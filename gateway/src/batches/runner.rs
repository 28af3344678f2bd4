//! Runs one batch from where it is to its end.

use std::{collections::HashSet, io, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    handover::{Handed, Of, Signals},
    input::{self, Line, Rules},
    line::{self, Outcome},
    operation,
    results::{Finding, Results},
};
use crate::{
    fault::Fault,
    gateway::Gateway,
    objects::{
        Batch, BatchError, Counts, Errors, File, Objects, OpenBatch, Purpose, Status, unusable,
    },
};

/// Lines of a batch that are asked at once.
const LINES_AT_ONCE: usize = 8;
/// Lines for which there was no time that are written at once.
const EXPIRED_AT_ONCE: usize = 1000;

/// A batch that runs.
pub(super) struct Runner {
    pub(super) gateway: Arc<Gateway>,
    pub(super) open: OpenBatch,
    /// Rings when somebody wants it to end.
    pub(super) stop: CancellationToken,
    pub(super) shutdown: CancellationToken,
    /// Places for batches whose lines the gateway asks itself.
    pub(super) slots: Arc<Semaphore>,
}

/// Why no more lines are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Expired,
    Cancelled,
    Shutdown,
}

impl End {
    /// Why a batch ends of which one part ends so and another so.
    pub(super) fn and(self, other: Self) -> Self {
        let rank = |end: Self| match end {
            Self::Done => 0,
            Self::Expired => 1,
            Self::Cancelled => 2,
            Self::Shutdown => 3,
        };
        if rank(self) < rank(other) {
            other
        } else {
            self
        }
    }
}

impl Runner {
    /// Runs the batch until it is done or the gateway is shut down.
    ///
    /// # Errors
    /// Rows or files cannot be used now.
    pub(super) async fn run(mut self) -> Result<(), Fault> {
        if self.open.batch.status == Status::Validating && !self.validate().await? {
            return Ok(());
        }
        if self.open.batch.status == Status::Cancelling {
            self.stop.cancel();
        }
        let objects = &self.gateway.objects;
        let (output, errors) = (
            objects.path(&self.open.output),
            objects.path(&self.open.errors),
        );
        let results = blocking(move || Results::open(&output, &errors)).await?;
        let results = Arc::new(Mutex::new(results));
        let mut handed = Handed::prepare(self.of(&results)).await?;
        let ids = std::mem::take(&mut handed.ids);
        // What providers run they run while the gateway runs the rest.
        let slots = Arc::clone(&self.slots);
        let (stop, shutdown) = (self.stop.clone(), self.shutdown.clone());
        let own = async {
            // Only those who ask for lines themselves take turns.
            let _slot = tokio::select! {
                slot = slots.acquire() => Some(slot.map_err(|error| unusable(&error))?),
                () = shutdown.cancelled() => None,
                () = stop.cancelled() => None,
            };
            self.answer_lines(&results, &ids).await
        };
        let (own, theirs) = tokio::try_join!(own, handed.run(&results))?;
        let end = own.and(theirs);
        if end == End::Shutdown {
            return Ok(());
        }
        if end == End::Expired {
            self.expire_lines(&results).await?;
        }
        self.finish(&results, end).await?;
        handed.forget().await
    }

    fn of<'a>(&'a self, results: &'a Arc<Mutex<Results>>) -> Of<'a> {
        Of {
            gateway: &self.gateway,
            open: &self.open,
            rules: self.rules(),
            results,
            signals: Signals {
                stop: self.stop.clone(),
                shutdown: self.shutdown.clone(),
                expires_at: self.open.batch.expires_at,
            },
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            endpoint: self.open.batch.endpoint.clone(),
            line_bytes_max: self.gateway.body_bytes_max(),
        }
    }

    async fn edit(
        &mut self,
        files: Vec<File>,
        change: impl FnOnce(&mut Batch) + Send + 'static,
    ) -> Result<(), Fault> {
        let objects: &Arc<Objects> = &self.gateway.objects;
        self.open.batch = objects
            .edit_batch(&self.open.batch.id, files, change)
            .await?;
        Ok(())
    }

    /// Checks the input; whether the batch goes on.
    async fn validate(&mut self) -> Result<bool, Fault> {
        let (path, rules) = (self.input(), self.rules());
        let checked = spawn_blocking(move || input::check(&path, &rules)).await;
        let (total, errors) = match checked.map_err(io::Error::other).flatten() {
            Ok(checked) => checked,
            Err(error) => {
                let error = BatchError {
                    code: "invalid_file".to_owned(),
                    message: format!("The input file cannot be read: {error}."),
                    param: Some("input_file_id".to_owned()),
                    line: None,
                };
                (0, vec![error])
            }
        };
        let now = Timestamp::now().as_second();
        let is_sound = errors.is_empty();
        let change = move |batch: &mut Batch| {
            if !is_sound {
                batch.status = Status::Failed;
                batch.failed_at = Some(now);
                batch.errors = Some(Errors {
                    object: "list".to_owned(),
                    data: errors,
                });
                return;
            }
            batch.in_progress_at = Some(now);
            batch.request_counts.total = total;
            // Somebody may have cancelled it since.
            if batch.status == Status::Validating {
                batch.status = Status::InProgress;
            }
        };
        self.edit(Vec::new(), change).await?;
        Ok(is_sound)
    }

    fn input(&self) -> std::path::PathBuf {
        self.gateway.objects.path(&self.open.batch.input_file_id)
    }

    /// Asks the lines that are not done.
    async fn answer_lines(
        &mut self,
        results: &Arc<Mutex<Results>>,
        handed: &HashSet<String>,
    ) -> Result<End, Fault> {
        let Some(operation) = operation(&self.open.batch.endpoint) else {
            return Ok(End::Done);
        };
        let key: Arc<str> = self.open.key.as_str().into();
        let ending = self.stop.child_token();
        let left = self.open.batch.expires_at - Timestamp::now().as_second();
        let over = tokio::time::sleep(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
        tokio::pin!(over);
        let mut lines = input::lines(&self.input(), &self.rules());
        let mut asked: JoinSet<(Line, Outcome)> = JoinSet::new();
        // A timer rings a little late, and no line is to be asked after the end.
        let mut end = (left <= 0).then_some(End::Expired);
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled(), if end.is_none() => end = Some(End::Shutdown),
                () = self.stop.cancelled(), if end.is_none() => end = Some(End::Cancelled),
                () = &mut over, if end.is_none() => end = Some(End::Expired),
                Some(first) = asked.join_next(), if !asked.is_empty() => {
                    self.record(results, first, &mut asked).await?;
                }
                line = lines.recv(), if end.is_none() && asked.len() < LINES_AT_ONCE => match line {
                    None => end = Some(End::Done),
                    Some(Err(error)) => return Err(unusable(&error)),
                    Some(Ok(line)) if handed.contains(&line.custom_id)
                        || results.lock().done.contains(&line.custom_id) => {}
                    Some(Ok(line)) => {
                        let (gateway, key) = (Arc::clone(&self.gateway), Arc::clone(&key));
                        asked.spawn(line::ask(gateway, key, operation, line, ending.clone()));
                    }
                },
                else => break,
            }
            if matches!(end, Some(End::Shutdown | End::Cancelled | End::Expired)) {
                // Lines that only wait for their next try wait no more.
                ending.cancel();
            }
        }
        Ok(end.unwrap_or(End::Done))
    }

    /// Writes what was found out about a line, and about the others that are ready.
    async fn record(
        &mut self,
        results: &Arc<Mutex<Results>>,
        first: Result<(Line, Outcome), tokio::task::JoinError>,
        asked: &mut JoinSet<(Line, Outcome)>,
    ) -> Result<(), Fault> {
        let mut ready = vec![first];
        while let Some(next) = asked.try_join_next() {
            ready.push(next);
        }
        let mut lines = Vec::new();
        for ready in ready {
            let (line, outcome) = ready.map_err(|error| unusable(&error))?;
            if let Outcome::Done(answer) = outcome {
                lines.push((line.custom_id, Finding::Answered(answer)));
            }
        }
        append(results, lines).await?;
        self.count(results).await
    }

    async fn count(&mut self, results: &Arc<Mutex<Results>>) -> Result<(), Fault> {
        let (completed, failed) = results.lock().counts();
        let change = move |batch: &mut Batch| {
            batch.request_counts = Counts {
                completed,
                failed,
                ..batch.request_counts
            };
        };
        self.edit(Vec::new(), change).await
    }

    /// Writes for each line that is not done that there was no time.
    async fn expire_lines(&mut self, results: &Arc<Mutex<Results>>) -> Result<(), Fault> {
        let mut lines = input::lines(&self.input(), &self.rules());
        let mut expired = Vec::new();
        while let Some(line) = lines.recv().await {
            let line = line.map_err(|error| unusable(&error))?;
            if !results.lock().done.contains(&line.custom_id) {
                expired.push((line.custom_id, Finding::Expired));
            }
            if EXPIRED_AT_ONCE <= expired.len() {
                append(results, std::mem::take(&mut expired)).await?;
            }
        }
        append(results, expired).await?;
        self.count(results).await
    }

    /// Shows the files and ends the batch, in one transaction.
    async fn finish(&mut self, results: &Arc<Mutex<Results>>, end: End) -> Result<(), Fault> {
        let (answers, errors) = results.lock().bytes().map_err(|error| unusable(&error))?;
        let id = self.open.batch.id.clone();
        let file = |name: &str, kind: &str, bytes: u64| {
            let filename = format!("{id}_{kind}.jsonl");
            let file = || File::new(name.to_owned(), Purpose::BATCH_OUTPUT, filename, bytes);
            (0 < bytes).then(file)
        };
        let output = file(&self.open.output, "output", answers);
        let errors = file(&self.open.errors, "error", errors);
        let id_of = |file: &Option<File>| file.as_ref().map(|file| file.id.clone());
        let (output_id, error_id) = (id_of(&output), id_of(&errors));
        let (completed, failed) = results.lock().counts();
        let change = move |batch: &mut Batch| {
            let now = Some(Timestamp::now().as_second());
            batch.output_file_id = output_id;
            batch.error_file_id = error_id;
            batch.finalizing_at = now;
            (batch.request_counts.completed, batch.request_counts.failed) = (completed, failed);
            match end {
                End::Expired => (batch.status, batch.expired_at) = (Status::Expired, now),
                End::Cancelled => (batch.status, batch.cancelled_at) = (Status::Cancelled, now),
                // A wish to cancel that came after the last answer changes nothing.
                End::Done | End::Shutdown => {
                    (batch.status, batch.completed_at) = (Status::Completed, now);
                }
            }
        };
        let files = [output, errors].into_iter().flatten().collect();
        self.edit(files, change).await?;
        let Counts {
            completed, failed, ..
        } = self.open.batch.request_counts;
        info!(batch = id, completed, failed, "batch ended");
        Ok(())
    }
}

async fn append(results: &Arc<Mutex<Results>>, lines: Vec<(String, Finding)>) -> Result<(), Fault> {
    let results = Arc::clone(results);
    blocking(move || results.lock().append(lines)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    let worked = spawn_blocking(work).await;
    let worked = worked.map_err(io::Error::other).flatten();
    worked.map_err(|error| unusable(&error))
}
