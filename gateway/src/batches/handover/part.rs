//! One part of a batch at its provider, from the upload of its lines to the last answer.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::{
    CANCEL_PATIENCE, Signals, WAIT_FIRST, WAIT_MAX, WAIT_MIN,
    answers::{AT_ONCE, Account, Answered, Lines, failed},
    remote::{Failed, Remote, RemoteBatch},
    write,
};
use crate::{
    batches::{
        results::{Finding, Results},
        runner::End,
    },
    call::Operation,
    fault::Fault,
    gateway::{Gateway, Waiting},
    objects::{Batch, Handover},
};

/// How often a file is read again that has lines that are none.
const GARBLED_FILES_MAX: u32 = 3;

/// What all parts of a batch have.
pub(super) struct Context<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) batch: &'a Batch,
    pub(super) operation: Operation,
    pub(super) signals: &'a Signals,
    pub(super) results: &'a Arc<Mutex<Results>>,
}

/// A part of a batch.
pub(super) struct Part {
    place: usize,
    handover: Handover,
    lines: Vec<String>,
    /// The lines without an answer.
    waiting: HashMap<String, Waiting>,
    wait: Duration,
}

/// What a step came to.
enum Step<T> {
    Done(T),
    /// The provider refuses for good.
    Refused(u16, Bytes),
    Ended(End),
}

impl Part {
    pub(super) fn new(place: usize, handover: Handover, lines: Vec<String>) -> Self {
        Self {
            place,
            handover,
            lines,
            waiting: HashMap::new(),
            wait: WAIT_FIRST,
        }
    }

    /// Takes those of its lines out that nobody has an answer to yet.
    pub(super) fn wait_for(&mut self, all: &mut HashMap<String, Waiting>) {
        let taken = self.lines.drain(..).filter_map(|id| all.remove_entry(&id));
        self.waiting.extend(taken);
    }

    /// Runs it until its last answer is written, or the batch ends.
    ///
    /// # Errors
    /// Rows, files or the ledger cannot be used now.
    pub(super) async fn run(&mut self, context: &Context<'_>) -> Result<End, Fault> {
        if self.waiting.is_empty() {
            return Ok(End::Done);
        }
        let id = match self.begin(context).await? {
            Step::Done(id) => id,
            Step::Refused(status, body) => return self.refuse(context, status, &body).await,
            Step::Ended(end) => return Ok(end),
        };
        let (batch, end) = match self.follow(context, &id).await? {
            Step::Done(followed) => followed,
            Step::Refused(status, body) => return self.refuse(context, status, &body).await,
            Step::Ended(end) => return Ok(end),
        };
        let files = [&batch.output_file_id, &batch.error_file_id];
        for file in files.into_iter().flatten() {
            match self.fetch(context, file).await? {
                Step::Done(()) => {}
                Step::Refused(status, body) => return self.refuse(context, status, &body).await,
                Step::Ended(End::Shutdown) => return Ok(End::Shutdown),
                // The provider has answers that cannot be had within the batch's time.
                Step::Ended(end) => return Ok(end),
            }
        }
        self.remove_files(context, &batch).await;
        if end == End::Done {
            self.tell_rest(context, &batch).await?;
        }
        Ok(end)
    }

    /// Has the provider begin; its batch's id.
    async fn begin(&mut self, context: &Context<'_>) -> Result<Step<String>, Fault> {
        let tag = format!("{}-{}", context.batch.id, self.place);
        loop {
            if let Some(id) = &self.handover.remote {
                return Ok(Step::Done(id.clone()));
            }
            if !self.handover.is_asked_for
                && let Some(end) = context.signals.pause(Duration::ZERO).await
            {
                return Ok(Step::Ended(end));
            }
            let tried = self.try_begin(context, &tag).await?;
            match tried {
                Ok(()) => self.wait = WAIT_FIRST,
                Err(Failed::Refused(status, body)) => return Ok(Step::Refused(status, body)),
                Err(Failed::Later(wait, reason)) => {
                    self.note(context, &reason);
                    if let Some(end) = self.pause(context, wait).await {
                        if end != End::Shutdown && self.handover.is_asked_for {
                            // Whether there is a batch to be ended is found out at once, or never.
                            self.end_unknown(context, &tag).await;
                        }
                        return Ok(Step::Ended(end));
                    }
                }
            }
        }
    }

    /// The next step of beginning; each is on disk before the next one relies on it.
    async fn try_begin(
        &mut self,
        context: &Context<'_>,
        tag: &str,
    ) -> Result<Result<(), Failed>, Fault> {
        let remote = match Remote::of(context.gateway, &self.handover) {
            Ok(remote) => remote,
            Err(failed) => return Ok(Err(failed)),
        };
        let Some(file) = self.handover.file.clone() else {
            let path = context.gateway.objects.part(&context.batch.id, self.place);
            let file = match remote.upload(&path, &format!("{tag}.jsonl")).await {
                Ok(file) => file,
                Err(failed) => return Ok(Err(failed)),
            };
            self.handover.file = Some(file);
            return self.save(context).await.map(Ok);
        };
        let found = match self.handover.is_asked_for {
            true => remote.find(tag).await,
            false => Ok(None),
        };
        let batch = match found {
            Ok(Some(batch)) => Ok(batch),
            Ok(None) => {
                self.handover.is_asked_for = true;
                self.save(context).await?;
                remote.create(&file, &context.batch.endpoint, tag).await
            }
            Err(failed) => Err(failed),
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(failed) => return Ok(Err(failed)),
        };
        let (local, id) = (&context.batch.id, &batch.id);
        info!(
            batch = local,
            remote = id,
            "a provider runs lines of a batch"
        );
        self.handover.remote = Some(batch.id);
        self.save(context).await.map(Ok)
    }

    /// Asks how far the provider is until it has ended; a batch that is to end early ends there too.
    async fn follow(
        &mut self,
        context: &Context<'_>,
        id: &str,
    ) -> Result<Step<(RemoteBatch, End)>, Fault> {
        let mut ending: Option<(End, Instant)> = None;
        let mut is_told = false;
        loop {
            let asked = match Remote::of(context.gateway, &self.handover) {
                Err(failed) => Err(failed),
                Ok(remote) => {
                    if ending.is_some() && !is_told {
                        is_told = remote.cancel(id).await.is_ok();
                    }
                    remote.get(id).await
                }
            };
            let wait = match asked {
                Ok((batch, _)) if batch.has_ended() => {
                    let end = ending.map_or(End::Done, |(end, _)| end);
                    return Ok(Step::Done((batch, end)));
                }
                Ok((_, wait)) => wait,
                Err(Failed::Refused(status, body)) => return Ok(Step::Refused(status, body)),
                Err(Failed::Later(wait, reason)) => {
                    self.note(context, &reason);
                    wait
                }
            };
            match ending {
                None => {
                    let end = self.pause(context, wait).await;
                    if end == Some(End::Shutdown) {
                        return Ok(Step::Ended(End::Shutdown));
                    }
                    ending = end.map(|end| (end, Instant::now()));
                }
                Some((end, since)) => {
                    if CANCEL_PATIENCE <= since.elapsed() {
                        return Ok(Step::Ended(end));
                    }
                    let wait = self.next_wait(wait);
                    tokio::select! {
                        () = context.signals.shutdown.cancelled() => return Ok(Step::Ended(End::Shutdown)),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Reads a file of answers, accounts for them and writes them; again from its beginning if it breaks.
    async fn fetch(&mut self, context: &Context<'_>, file: &str) -> Result<Step<()>, Fault> {
        let mut garbled_files = 0;
        loop {
            let (wait, reason) = match self.try_fetch(context, file).await? {
                Ok(0) => return Ok(Step::Done(())),
                Ok(_) if GARBLED_FILES_MAX <= garbled_files => return Ok(Step::Done(())),
                Ok(lines) => {
                    garbled_files += 1;
                    (None, format!("{lines} lines of the answers are none"))
                }
                Err(Failed::Refused(status, body)) => return Ok(Step::Refused(status, body)),
                Err(Failed::Later(wait, reason)) => (wait, reason),
            };
            self.note(context, &reason);
            if let Some(end) = self.pause(context, wait).await {
                return Ok(Step::Ended(end));
            }
        }
    }

    /// Reads a file of answers once; how many of its lines are none.
    async fn try_fetch(
        &mut self,
        context: &Context<'_>,
        file: &str,
    ) -> Result<Result<u64, Failed>, Fault> {
        let remote = match Remote::of(context.gateway, &self.handover) {
            Ok(remote) => remote,
            Err(failed) => return Ok(Err(failed)),
        };
        let body = match remote.content(file).await {
            Ok(body) => body,
            Err(failed) => return Ok(Err(failed)),
        };
        let account = account(context, &remote);
        let mut lines = Lines::new(body);
        loop {
            let answers = match lines.next().await {
                Ok(Some(answers)) => answers,
                Ok(None) => return Ok(Ok(lines.garbled)),
                Err(reason) => return Ok(Err(Failed::Later(None, reason))),
            };
            let found = account.settle(answers, &mut self.waiting).await?;
            write(context.results, found).await?;
        }
    }

    /// Tells of each line that is left that the provider refuses, in its words.
    async fn refuse(
        &mut self,
        context: &Context<'_>,
        status: u16,
        body: &[u8],
    ) -> Result<End, Fault> {
        let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let said = said["error"]["message"].as_str().unwrap_or_default();
        let message = format!("The provider takes no batch of this line (status {status}). {said}");
        self.tell(context, failed(400, message.trim_end())).await?;
        Ok(End::Done)
    }

    /// Tells of the lines that the provider's batch had no answer to.
    async fn tell_rest(&mut self, context: &Context<'_>, batch: &RemoteBatch) -> Result<(), Fault> {
        if &*batch.status == "expired" {
            let left = self.waiting.drain();
            let expired = left.map(|(id, _)| (id, Finding::Expired));
            return write(context.results, expired.collect()).await;
        }
        let reason = batch.reason().unwrap_or("It gave no answer to this line.");
        let status = if &*batch.status == "failed" { 400 } else { 502 };
        let message = format!("The provider's batch is {}. {reason}", batch.status);
        self.tell(context, failed(status, &message)).await
    }

    async fn tell(&mut self, context: &Context<'_>, answer: (u16, Bytes)) -> Result<(), Fault> {
        let ids: Vec<String> = self.waiting.keys().cloned().collect();
        // Without its route a line stays without an answer, which the batch's end tells.
        let Ok(remote) = Remote::of(context.gateway, &self.handover) else {
            return Ok(());
        };
        let account = account(context, &remote);
        for ids in ids.chunks(AT_ONCE) {
            let answers = ids.iter().map(|id| Answered {
                custom_id: id.clone(),
                answer: Some(answer.clone()),
            });
            let found = account.settle(answers.collect(), &mut self.waiting).await?;
            write(context.results, found).await?;
        }
        Ok(())
    }

    /// Ends a batch of which nobody knows whether it is there.
    async fn end_unknown(&self, context: &Context<'_>, tag: &str) {
        if let Ok(remote) = Remote::of(context.gateway, &self.handover)
            && let Ok(Some(batch)) = remote.find(tag).await
        {
            let _ = remote.cancel(&batch.id).await;
        }
    }

    /// Removes the provider's copies of the lines and of the answers, which are here.
    async fn remove_files(&self, context: &Context<'_>, batch: &RemoteBatch) {
        let Ok(remote) = Remote::of(context.gateway, &self.handover) else {
            return;
        };
        let files = [
            &self.handover.file,
            &batch.output_file_id,
            &batch.error_file_id,
        ];
        for file in files.into_iter().flatten() {
            remote.delete(file).await;
        }
    }

    async fn save(&self, context: &Context<'_>) -> Result<(), Fault> {
        let objects = &context.gateway.objects;
        let parts = vec![self.handover.clone()];
        objects
            .put_handovers(&context.batch.id, self.place, parts)
            .await
    }

    async fn pause(&mut self, context: &Context<'_>, wait: Option<Duration>) -> Option<End> {
        let wait = self.next_wait(wait);
        context.signals.pause(wait).await
    }

    /// The next wait: what the provider says, or longer each time.
    fn next_wait(&mut self, said: Option<Duration>) -> Duration {
        let wait = said.unwrap_or(self.wait).clamp(WAIT_MIN, WAIT_MAX);
        if said.is_none() {
            self.wait = (self.wait + self.wait / 2).min(WAIT_MAX);
        }
        wait
    }

    fn note(&self, context: &Context<'_>, reason: &str) {
        let (batch, route) = (&context.batch.id, &self.handover.route);
        let target = &self.handover.target;
        warn!(batch, route, target, reason, "a provider's batch must wait");
    }
}

fn account<'a>(context: &Context<'a>, remote: &'a Remote) -> Account<'a> {
    Account {
        gateway: context.gateway,
        batch: context.batch,
        operation: context.operation,
        route: &remote.route,
        target: remote.place,
    }
}
