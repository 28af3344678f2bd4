//! The step loop: schedule, run, sample, settle; on a thread of its own until nobody can send requests any more.
//!
//! It has two sides. This side, the host's, decides steps, makes text of tokens and tells clients. The other one, the
//! device's ([`device`]), computes and chooses tokens. While the device computes a step, the host decides the next one
//! and handles what came of the last: a token that is not known yet is filled in by the device. A sequence that turns
//! out to have ended has wasted one row at most. With speculation a step needs to know all tokens before it, so there
//! is nothing to do ahead, and both sides take turns.

mod active;
mod command;
mod device;
mod event_log;
mod job;
mod lane;
mod masks;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use command::{Command, Message};
pub(crate) use event_log::EventLog;
pub(crate) use request::{Event, Refusal, Request, TokenEvent, Visible};

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use engine_core::{
    AdapterId, FinishReason, Generation, NewSequence, Refused, Scheduler, SequenceId, Step,
};
use engine_models::{Backend, Tokenizer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::metrics::{Finished, Metrics, Position, Reason};

use active::Active;
use device::Device;
use job::{Begun, Job, JobRow, Outcome};
use lane::{Lane, LaneEnded};

/// What the loop works with.
pub(crate) struct RunnerOptions {
    pub(crate) scheduler: Scheduler,
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) messages: mpsc::Receiver<Message>,
    /// Takes the changes of the prefix cache, if anybody wants them.
    pub(crate) events: Option<Arc<EventLog>>,
    /// Whether the device's side works ahead.
    pub(crate) is_ahead: bool,
    /// Adapters that the backend has already.
    pub(crate) adapters: HashMap<AdapterId, String>,
    /// Most adapters, for the metrics.
    pub(crate) adapters_max: usize,
}

/// The loop.
pub(crate) struct Runner {
    scheduler: Scheduler,
    lane: Lane,
    tokenizer: Arc<Tokenizer>,
    metrics: Arc<Metrics>,
    messages: mpsc::Receiver<Message>,
    events: Option<Arc<EventLog>>,
    active: HashMap<SequenceId, Active>,
    /// What the device has yet to hear.
    begun: Vec<Begun>,
    ended: Vec<SequenceId>,
    /// Jobs that were submitted and not waited for; at most one between two steps.
    in_flight: usize,
    adapters: HashMap<AdapterId, String>,
    retired: Vec<AdapterId>,
    adapters_max: usize,
    is_asleep: bool,
    next_id: u64,
}

impl Runner {
    pub(crate) fn new(options: RunnerOptions) -> Self {
        let RunnerOptions {
            scheduler,
            backend,
            tokenizer,
            metrics,
            messages,
            events,
            is_ahead,
            adapters,
            adapters_max,
        } = options;
        let device = Device::new(backend, 1);
        let lane = if is_ahead {
            Lane::ahead(device)
        } else {
            Lane::inline(device)
        };
        Self {
            scheduler,
            lane,
            tokenizer,
            metrics,
            messages,
            events,
            active: HashMap::new(),
            begun: Vec::new(),
            ended: Vec::new(),
            in_flight: 0,
            adapters,
            retired: Vec::new(),
            adapters_max,
            is_asleep: false,
            next_id: 0,
        }
    }

    /// Computes until all senders of requests are gone and everything is answered, or until `abort`. False if the
    /// device's side died.
    pub(crate) fn run(mut self, abort: &CancellationToken) -> bool {
        loop {
            let went = self.receive().and_then(|goes_on| {
                if !goes_on || abort.is_cancelled() {
                    return Ok(false);
                }
                self.drop_abandoned()?;
                self.step()?;
                self.publish();
                Ok(true)
            });
            match went {
                Ok(true) => {}
                Ok(false) => return true,
                Err(LaneEnded) => {
                    error!("the device's thread has ended");
                    return false;
                }
            }
        }
    }

    /// Takes on what has arrived; waits if there is nothing else to do. False when there never will be.
    fn receive(&mut self) -> Result<bool, LaneEnded> {
        if self.active.is_empty() || self.is_asleep {
            self.land()?;
            self.publish();
            match self.messages.blocking_recv() {
                Some(message) => self.take(message)?,
                // Whoever waits for a sleeping engine waits for nothing.
                None => return Ok(false),
            }
        }
        while let Ok(message) = self.messages.try_recv() {
            self.take(message)?;
        }
        Ok(true)
    }

    fn take(&mut self, message: Message) -> Result<(), LaneEnded> {
        match message {
            Message::Request(request) => self.add(*request),
            Message::Command(command) => self.obey(command)?,
        }
        Ok(())
    }

    fn add(&mut self, request: Request) {
        if let Err(refusal) = self.admit(&request) {
            let _ = request.events.send(Event::Refused(refusal));
            return;
        }
        let Request {
            prompt,
            generation,
            length_max,
            priority,
            salt,
            adapter,
            prompt_logprobs,
            visible,
            events,
        } = request;
        let Generation {
            mut chooser,
            constraint,
            answer,
        } = generation;
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        chooser.read_prompt(&prompt);
        let length = prompt.len();
        let added = self.scheduler.add(
            id,
            NewSequence {
                prompt,
                length_max,
                priority,
                salt,
                adapter,
                wants_prompt_logits: prompt_logprobs.is_some(),
            },
        );
        if let Err(refused) = added {
            self.count_refused(refused);
            let _ = events.send(Event::Refused(refused.into()));
            return;
        }
        self.metrics.prompt_tokens.inc_by(length as u64);
        self.metrics.request_prompt.observe(length as f64);
        self.begun.push(Begun {
            id,
            chooser,
            constraint,
            prompt_logprobs: prompt_logprobs.unwrap_or(0),
        });
        let active = Active::new(answer, visible, adapter, prompt_logprobs.is_some(), events);
        active.send(Event::Queued);
        self.active.insert(id, active);
    }

    fn admit(&self, request: &Request) -> Result<(), Refusal> {
        if self.is_asleep {
            return Err(Refusal::Asleep);
        }
        match request.adapter {
            Some(id) if !self.adapters.contains_key(&id) => Err(Refusal::UnknownAdapter),
            Some(_) | None => Ok(()),
        }
    }

    fn count_refused(&self, refused: Refused) {
        let reason = match refused {
            Refused::QueueFull { .. } => Reason::QUEUED_REQUESTS,
            Refused::QueueTokens { .. } => Reason::QUEUED_TOKENS,
            Refused::TooLong { .. } | Refused::EmptyPrompt => return,
        };
        self.metrics.rejections.get_or_create(&reason).inc();
    }

    /// Ends sequences whose clients have gone away.
    fn drop_abandoned(&mut self) -> Result<(), LaneEnded> {
        let is_closed = |(_, active): &(&SequenceId, &Active)| active.events.is_closed();
        let abandoned: Vec<_> = self
            .active
            .iter()
            .filter(is_closed)
            .map(|(id, _)| *id)
            .collect();
        for id in abandoned {
            self.finish(id, Finished::new("abort"))?;
        }
        Ok(())
    }

    /// Submits the next step, then handles what came of the last one, if the device works ahead, or of this one.
    fn step(&mut self) -> Result<(), LaneEnded> {
        let is_submitted = self.submit()?;
        let keeps = usize::from(is_submitted && self.lane.is_ahead());
        while keeps < self.in_flight {
            self.settle()?;
        }
        Ok(())
    }

    /// Handles what came of all that is in flight.
    fn land(&mut self) -> Result<(), LaneEnded> {
        while 0 < self.in_flight {
            self.settle()?;
        }
        Ok(())
    }

    /// Decides a step and hands it to the device. False if there is nothing to compute.
    fn submit(&mut self) -> Result<bool, LaneEnded> {
        let mut step = self.scheduler.schedule();
        self.metrics.preemptions.inc_by(step.preempted.len() as u64);
        if step.rows.is_empty() && step.transfers.is_empty() {
            return Ok(false);
        }
        self.note_start(&step);
        let job = Job {
            begun: std::mem::take(&mut self.begun),
            ended: std::mem::take(&mut self.ended),
            rows: JobRow::of_step(&mut step, &self.scheduler),
            transfers: step.transfers,
        };
        self.lane.submit(job)?;
        self.in_flight += 1;
        Ok(true)
    }

    fn note_start(&mut self, step: &Step) {
        let metrics = &self.metrics;
        metrics.step_tokens.observe(step.tokens() as f64);
        metrics.batch.observe(step.rows.len() as f64);
        let sequences = i64::try_from(step.rows.len()).unwrap_or(i64::MAX);
        metrics
            .batch_max
            .set(metrics.batch_max.get().max(sequences));
        let has_host = self.scheduler.cache().has_host();
        for row in &step.rows {
            if let (Some(active), Some(sequence)) = (
                self.active.get_mut(&row.sequence),
                self.scheduler.sequence(row.sequence),
            ) {
                active.start(sequence, has_host, metrics);
            }
        }
    }

    /// Waits for what came of the oldest job and tells the requests.
    fn settle(&mut self) -> Result<(), LaneEnded> {
        let outcomes = self.lane.wait()?;
        self.in_flight -= 1;
        // First the scheduler hears everything, then the clients, so that nobody waits for their texts.
        for outcome in &outcomes {
            if outcome.samples {
                let tokens: Vec<_> = outcome
                    .chosen
                    .iter()
                    .map(|chosen| chosen.sampled.token)
                    .collect();
                self.scheduler.settle(outcome.id, &tokens, outcome.drafts);
            }
        }
        for outcome in outcomes {
            self.tell(outcome)?;
        }
        Ok(())
    }

    fn tell(&mut self, outcome: Outcome) -> Result<(), LaneEnded> {
        self.note_drafts(&outcome);
        let id = outcome.id;
        let (Some(active), Some(sequence)) =
            (self.active.get_mut(&id), self.scheduler.sequence(id))
        else {
            return Ok(());
        };
        active.tell_prompt(outcome.prompt, outcome.samples);
        for chosen in outcome.chosen {
            let finish = active.tell(chosen, sequence, &self.tokenizer, &self.metrics);
            if let Some(reason) = finish {
                return self.finish(id, finished(reason));
            }
        }
        if let Some(failure) = outcome.failure {
            active.send(Event::Failed(failure.to_string()));
            return self.finish(id, Finished::new("error"));
        }
        Ok(())
    }

    fn note_drafts(&self, outcome: &Outcome) {
        if outcome.drafts_computed == 0 {
            return;
        }
        let metrics = &self.metrics;
        let accepted = outcome.chosen.len().saturating_sub(1);
        metrics.drafts.inc();
        metrics.draft_tokens.inc_by(outcome.drafts_computed as u64);
        metrics.accepted_tokens.inc_by(accepted as u64);
        for position in 0..u32::try_from(accepted).unwrap_or(0) {
            metrics
                .accepted_by_position
                .get_or_create(&Position { position })
                .inc();
        }
    }

    /// Ends a sequence; its blocks are free at once.
    fn finish(&mut self, id: SequenceId, finished: Finished) -> Result<(), LaneEnded> {
        let preemptions = self
            .scheduler
            .sequence(id)
            .map_or(0, engine_core::Sequence::preemptions);
        self.scheduler.remove(id);
        // A sequence that never reached the device has nothing there.
        let begun = self.begun.len();
        self.begun.retain(|begun| begun.id != id);
        if begun == self.begun.len() {
            self.ended.push(id);
        }
        if let Some(active) = self.active.remove(&id) {
            active.finish(finished, preemptions, &self.metrics);
        }
        if !self.retired.is_empty() {
            self.remove_retired()?;
        }
        Ok(())
    }

    fn publish(&mut self) {
        let metrics = &self.metrics;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let (waiting, deferred) = (self.scheduler.waiting(), self.scheduler.deferred());
        metrics.running.set(count(self.scheduler.running()));
        metrics.waiting.set(count(waiting));
        for (reason, number) in [
            (Reason::CAPACITY, waiting - deferred),
            (Reason::DEFERRED, deferred),
        ] {
            metrics
                .waiting_by_reason
                .get_or_create(&reason)
                .set(count(number));
        }
        metrics.cache_usage.set(self.scheduler.pool().usage());
        if !self.adapters.is_empty() {
            metrics.set_loras(self.adapters_max, &self.adapter_counts());
        }
        if let Some(events) = &self.events {
            events.append(self.scheduler.take_events());
        }
    }

    /// How many sequences run and wait with each adapter.
    fn adapter_counts(&self) -> BTreeMap<String, (usize, usize)> {
        let mut counts = BTreeMap::<String, (usize, usize)>::new();
        for (id, active) in &self.active {
            let name = active
                .adapter
                .and_then(|adapter| self.adapters.get(&adapter));
            let Some(name) = name else { continue };
            let runs = self
                .scheduler
                .sequence(*id)
                .is_some_and(|sequence| !sequence.blocks().is_empty());
            let count = counts.entry(name.clone()).or_default();
            if runs {
                count.0 += 1;
            } else {
                count.1 += 1;
            }
        }
        counts
    }
}

const fn finished(reason: FinishReason) -> Finished {
    Finished::new(reason.as_str())
}
