//! The step loop: schedule, run, sample, settle; on a thread of its own until nobody can send requests any more.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use engine_core::{
    FinishReason, Generation, Refused, Sampled, Scheduler, SequenceId, Step, TokenId,
};
use engine_models::{Backend, BatchRow, Tokenizer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Finished, Metrics};

/// What a request learns, in this order: `Queued` or `Refused`, then tokens until one finishes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The request will be computed.
    Queued,
    /// The request is not taken on.
    Refused(Refused),
    /// One more token.
    Token(TokenEvent),
}

/// A token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenEvent {
    pub(crate) sampled: Sampled,
    /// Text that can be sent now; it may belong to earlier tokens.
    pub(crate) text: String,
    /// Tokens of the prompt that came from the prefix cache.
    pub(crate) cached_tokens: usize,
    pub(crate) finish: Option<FinishReason>,
}

/// A prompt, how to answer it, and whom to tell.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) generation: Generation,
    /// Most tokens of prompt and answer.
    pub(crate) length_max: usize,
    /// At most one event a token, so the length of the context bounds it. A closed channel ends the sequence.
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

#[derive(Debug)]
struct Active {
    generation: Generation,
    events: mpsc::UnboundedSender<Event>,
    arrived: Instant,
    /// When it was first scheduled, and when the first and the last token came.
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

/// The loop and what it works on.
pub(crate) struct Runner {
    scheduler: Scheduler,
    backend: Box<dyn Backend>,
    tokenizer: Arc<Tokenizer>,
    metrics: Arc<Metrics>,
    requests: mpsc::Receiver<Request>,
    active: HashMap<SequenceId, Active>,
    next_id: u64,
}

impl Runner {
    pub(crate) fn new(
        scheduler: Scheduler,
        backend: Box<dyn Backend>,
        tokenizer: Arc<Tokenizer>,
        metrics: Arc<Metrics>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            scheduler,
            backend,
            tokenizer,
            metrics,
            requests,
            active: HashMap::new(),
            next_id: 0,
        }
    }

    /// Computes until all senders of requests are gone and everything is answered, or until `abort`.
    pub(crate) fn run(mut self, abort: &CancellationToken) {
        while self.receive() && !abort.is_cancelled() {
            self.drop_abandoned();
            self.step();
            self.publish();
        }
    }

    /// Takes on what has arrived; waits if there is nothing else to do. False when there never will be.
    fn receive(&mut self) -> bool {
        if self.active.is_empty() {
            match self.requests.blocking_recv() {
                Some(request) => self.add(request),
                None => return false,
            }
        }
        while let Ok(request) = self.requests.try_recv() {
            self.add(request);
        }
        true
    }

    fn add(&mut self, request: Request) {
        let Request {
            prompt,
            generation,
            length_max,
            events,
        } = request;
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let length = prompt.len();
        let answer = match self.scheduler.add(id, prompt, length_max) {
            Ok(()) => {
                self.metrics.prompt_tokens.inc_by(length as u64);
                self.metrics.request_prompt.observe(length as f64);
                Event::Queued
            }
            Err(refused) => {
                self.metrics.rejections.inc();
                Event::Refused(refused)
            }
        };
        let is_queued = answer == Event::Queued;
        // Whoever has gone away already is noticed before the next step.
        let _ = events.send(answer);
        if is_queued {
            let arrived = Instant::now();
            self.active.insert(
                id,
                Active {
                    generation,
                    events,
                    arrived,
                    started: None,
                    first_token: None,
                    last_token: None,
                },
            );
        }
    }

    /// Ends sequences whose clients have gone away.
    fn drop_abandoned(&mut self) {
        let abandoned: Vec<_> = self
            .active
            .iter()
            .filter(|(_, active)| active.events.is_closed())
            .map(|(id, _)| *id)
            .collect();
        for id in abandoned {
            self.finish(id, "abort");
        }
    }

    fn step(&mut self) {
        let step = self.scheduler.schedule();
        if step.rows.is_empty() {
            return;
        }
        self.note_start(&step);
        let rows = step.rows.iter().filter_map(|row| {
            let sequence = self.scheduler.sequence(row.sequence)?;
            let tokens = &sequence.tokens()[row.start..row.start + row.length];
            Some(BatchRow {
                tokens,
                start: row.start,
                blocks: sequence.blocks(),
                outputs: row.outputs,
                adapter: None,
            })
        });
        let logits = self.backend.forward(&rows.collect::<Vec<_>>());
        let mut sampled = Vec::new();
        for (row, logits) in step
            .rows
            .iter()
            .filter(|row| 0 < row.outputs)
            .zip(logits.rows())
        {
            if let Some(active) = self.active.get_mut(&row.sequence) {
                sampled.push((row.sequence, active.generation.sample(logits)));
            }
        }
        let tokens: Vec<_> = sampled
            .iter()
            .map(|(id, sampled)| (*id, sampled.token))
            .collect();
        self.scheduler.settle(&step, &tokens);
        for (id, sampled) in sampled {
            self.tell(id, sampled);
        }
    }

    fn note_start(&mut self, step: &Step) {
        let metrics = &self.metrics;
        metrics.step_tokens.observe(step.tokens() as f64);
        metrics.batch.observe(step.rows.len() as f64);
        let sequences = i64::try_from(step.rows.len()).unwrap_or(i64::MAX);
        metrics
            .batch_max
            .set(metrics.batch_max.get().max(sequences));
        metrics.preemptions.inc_by(step.preempted.len() as u64);
        for row in &step.rows {
            let (Some(active), Some(sequence)) = (
                self.active.get_mut(&row.sequence),
                self.scheduler.sequence(row.sequence),
            ) else {
                continue;
            };
            if active.started.is_none() {
                let now = Instant::now();
                active.started = Some(now);
                metrics.queued.observe((now - active.arrived).as_secs_f64());
                metrics
                    .prefix_queries
                    .inc_by(sequence.prompt_length() as u64);
                metrics.prefix_hits.inc_by(sequence.cached_length() as u64);
                metrics
                    .prompt_tokens_cached
                    .inc_by(sequence.cached_length() as u64);
            }
        }
    }

    /// Tells a request about its token, and ends it if that was the last.
    fn tell(&mut self, id: SequenceId, sampled: Sampled) {
        let (Some(active), Some(sequence)) =
            (self.active.get_mut(&id), self.scheduler.sequence(id))
        else {
            return;
        };
        let metrics = &self.metrics;
        let now = Instant::now();
        metrics.generation_tokens.inc();
        match active.last_token.replace(now) {
            None => {
                metrics
                    .first_token
                    .observe((now - active.arrived).as_secs_f64());
                metrics
                    .prefill
                    .observe((now - active.started.unwrap_or(now)).as_secs_f64());
                active.first_token = Some(now);
            }
            Some(last) => metrics.between_tokens.observe((now - last).as_secs_f64()),
        }
        let bytes = self.tokenizer.bytes(sampled.token);
        let progress = active.generation.accept(sampled.token, &bytes);
        let cached_tokens = sequence.cached_length();
        let event = TokenEvent {
            sampled,
            text: progress.text,
            cached_tokens,
            finish: progress.finish,
        };
        // A client that has gone away is noticed before the next step.
        let _ = active.events.send(Event::Token(event));
        if let Some(reason) = progress.finish {
            self.finish(id, reason.as_str());
        }
    }

    fn finish(&mut self, id: SequenceId, finished_reason: &'static str) {
        self.scheduler.remove(id);
        if let Some(active) = self.active.remove(&id) {
            let metrics = &self.metrics;
            metrics
                .success
                .get_or_create(&Finished { finished_reason })
                .inc();
            metrics
                .whole_request
                .observe(active.arrived.elapsed().as_secs_f64());
            metrics
                .request_generation
                .observe(active.generation.tokens() as f64);
            if let (Some(first), Some(last)) = (active.first_token, active.last_token) {
                metrics.decode.observe((last - first).as_secs_f64());
            }
        }
    }

    fn publish(&self) {
        let metrics = &self.metrics;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        metrics.running.set(count(self.scheduler.running()));
        metrics.waiting.set(count(self.scheduler.waiting()));
        metrics.cache_usage.set(self.scheduler.pool().usage());
    }
}
