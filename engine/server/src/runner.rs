//! The step loop: schedule, run, sample, settle; on a thread of its own until nobody can send requests any more.

mod request;
#[cfg(test)]
mod tests;

pub(crate) use request::{Event, Refusal, Request, TokenEvent};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use engine_core::{
    Answer, Chooser, Chosen, Constraint, ConstraintError, Generation, Scheduler, Scratch,
    SequenceId, Step,
};
use engine_models::{Backend, BatchRow, Tokenizer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Finished, Metrics};

#[derive(Debug)]
struct Active {
    chooser: Chooser,
    constraint: Option<Box<dyn Constraint>>,
    answer: Answer,
    shows_special: bool,
    events: mpsc::UnboundedSender<Event>,
    arrived: Instant,
    /// When it was first scheduled, and when the first and the last token came.
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl Active {
    fn choose(&mut self, logits: &[f32], scratch: &mut Scratch) -> Result<Chosen, ConstraintError> {
        let chosen = self
            .chooser
            .choose(logits, self.constraint.as_deref_mut(), scratch)?;
        if let Some(constraint) = &mut self.constraint
            && !chosen.is_end
        {
            constraint.accept(chosen.sampled.token)?;
        }
        Ok(chosen)
    }
}

/// The loop and what it works on.
pub(crate) struct Runner {
    scheduler: Scheduler,
    backend: Box<dyn Backend>,
    tokenizer: Arc<Tokenizer>,
    metrics: Arc<Metrics>,
    requests: mpsc::Receiver<Request>,
    active: HashMap<SequenceId, Active>,
    scratch: Scratch,
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
            scratch: Scratch::default(),
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
            shows_special,
            events,
            ..
        } = request;
        let Generation {
            mut chooser,
            constraint,
            answer,
        } = generation;
        chooser.read_prompt(&prompt);
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let length = prompt.len();
        let reply = match self.scheduler.add(id, prompt, length_max) {
            Ok(()) => {
                self.metrics.prompt_tokens.inc_by(length as u64);
                self.metrics.request_prompt.observe(length as f64);
                Event::Queued
            }
            Err(refused) => {
                self.metrics.rejections.inc();
                Event::Refused(refused.into())
            }
        };
        let is_queued = reply == Event::Queued;
        // Whoever has gone away already is noticed before the next step.
        let _ = events.send(reply);
        if is_queued {
            let arrived = Instant::now();
            self.active.insert(
                id,
                Active {
                    chooser,
                    constraint,
                    answer,
                    shows_special,
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
                let chosen = active.choose(logits, &mut self.scratch);
                sampled.push((row.sequence, chosen));
            }
        }
        let tokens: Vec<_> = sampled
            .iter()
            .filter_map(|(id, chosen)| Some((*id, chosen.as_ref().ok()?.sampled.token)))
            .collect();
        self.scheduler.settle(&step, &tokens);
        for (id, chosen) in sampled {
            match chosen {
                Ok(chosen) => self.tell(id, chosen),
                Err(error) => self.fail(id, &error),
            }
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
    fn tell(&mut self, id: SequenceId, chosen: Chosen) {
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
        let Chosen { sampled, is_end } = chosen;
        let progress = if is_end {
            active.answer.end()
        } else if active.shows_special {
            active
                .answer
                .accept(&self.tokenizer.visible_bytes(sampled.token))
        } else {
            active.answer.accept(&self.tokenizer.bytes(sampled.token))
        };
        let cached_tokens = sequence.cached_length();
        let event = TokenEvent {
            sampled,
            text: progress.text,
            cached_tokens,
            finish: progress.finish,
            stop: progress.stop,
        };
        // A client that has gone away is noticed before the next step.
        let _ = active.events.send(Event::Token(event));
        if let Some(reason) = progress.finish {
            self.finish(id, reason.as_str());
        }
    }

    /// Tells a request that its answer cannot go on.
    fn fail(&mut self, id: SequenceId, error: &ConstraintError) {
        if let Some(active) = self.active.get(&id) {
            let _ = active.events.send(Event::Failed(error.to_string()));
        }
        self.finish(id, "error");
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
                .observe(active.answer.tokens() as f64);
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
