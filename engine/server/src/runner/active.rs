//! The host's half of a request: makes text of its tokens, tells its client, and keeps the times.

use std::time::Instant;

use engine_core::{AdapterId, Answer, Chosen, FinishReason, PromptLogprob, Sequence};
use engine_models::Tokenizer;
use tokio::sync::mpsc;

use crate::metrics::{Finished, Metrics, Source};

use super::request::{Event, TokenEvent, Visible};

/// A request that waits or runs.
#[derive(Debug)]
pub(super) struct Active {
    answer: Answer,
    visible: Visible,
    pub(super) adapter: Option<AdapterId>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// What is known of the prompt's tokens, until all of it is.
    prompt: Option<Vec<PromptLogprob>>,
    arrived: Instant,
    /// When it was first scheduled, and when the first and the last token came.
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl Active {
    pub(super) fn new(
        answer: Answer,
        visible: Visible,
        adapter: Option<AdapterId>,
        wants_prompt: bool,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            answer,
            visible,
            adapter,
            events,
            prompt: wants_prompt.then(Vec::new),
            arrived: Instant::now(),
            started: None,
            first_token: None,
            last_token: None,
        }
    }

    /// Notes that the sequence has begun to run.
    pub(super) fn start(&mut self, sequence: &Sequence, has_host: bool, metrics: &Metrics) {
        if self.started.is_some() {
            return;
        }
        let now = Instant::now();
        self.started = Some(now);
        metrics.queued.observe((now - self.arrived).as_secs_f64());
        let (length, cached) = (sequence.prompt_length(), sequence.cached());
        let computed = length - cached.device - cached.host;
        metrics.request_computed.observe(computed as f64);
        metrics.prefix_queries.inc_by(length as u64);
        metrics.prefix_hits.inc_by(cached.device as u64);
        if has_host {
            metrics.host_queries.inc_by((length - cached.device) as u64);
            metrics.host_hits.inc_by(cached.host as u64);
        }
        let all = (cached.device + cached.host) as u64;
        metrics.prompt_tokens_cached.inc_by(all);
        for (source, tokens) in [
            (Source::COMPUTED, computed),
            (Source::CACHE_HIT, cached.device),
            (Source::TRANSFER, cached.host),
        ] {
            let counter = metrics.prompt_tokens_by_source.get_or_create(&source);
            counter.inc_by(tokens as u64);
        }
        for (source, tokens) in [(Source::DEVICE, cached.device), (Source::HOST, cached.host)] {
            let counter = metrics
                .prompt_tokens_cached_by_source
                .get_or_create(&source);
            counter.inc_by(tokens as u64);
        }
    }

    /// Takes what is known of more of the prompt's tokens, and tells all of it before the first token.
    pub(super) fn tell_prompt(&mut self, more: Vec<PromptLogprob>, is_complete: bool) {
        if let Some(prompt) = &mut self.prompt {
            prompt.extend(more);
        }
        if is_complete && let Some(prompt) = self.prompt.take() {
            self.send(Event::Prompt(prompt));
        }
    }

    /// Tells the client about a token. Says why the answer ends, if it does.
    pub(super) fn tell(
        &mut self,
        chosen: Chosen,
        sequence: &Sequence,
        tokenizer: &Tokenizer,
        metrics: &Metrics,
    ) -> Option<FinishReason> {
        self.note_token(metrics);
        let Chosen { sampled, is_end } = chosen;
        let progress = if is_end {
            self.answer.end()
        } else {
            let bytes = self.visible.bytes(tokenizer, sampled.token);
            self.answer.accept(&bytes)
        };
        let cached = sequence.cached();
        self.send(Event::Token(TokenEvent {
            sampled,
            text: progress.text,
            cached_tokens: cached.device + cached.host,
            finish: progress.finish,
            stop: progress.stop,
        }));
        progress.finish
    }

    /// Sends an event; a client that has gone away is noticed before the next step.
    pub(super) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Counts the request as ended.
    pub(super) fn finish(self, finished: Finished, preemptions: usize, metrics: &Metrics) {
        metrics.success.get_or_create(&finished).inc();
        metrics
            .whole_request
            .observe(self.arrived.elapsed().as_secs_f64());
        let tokens = self.answer.tokens();
        metrics.request_generation.observe(tokens as f64);
        metrics.request_generation_max.observe(tokens as f64);
        metrics.request_preemptions.observe(preemptions as f64);
        let (Some(first), Some(last)) = (self.first_token, self.last_token) else {
            return;
        };
        let decode = (last - first).as_secs_f64();
        metrics.decode.observe(decode);
        if let Some(started) = self.started {
            metrics.inference.observe((last - started).as_secs_f64());
        }
        if 1 < tokens {
            metrics
                .mean_between_tokens
                .observe(decode / (tokens - 1) as f64);
        }
    }

    fn note_token(&mut self, metrics: &Metrics) {
        let now = Instant::now();
        metrics.generation_tokens.inc();
        match self.last_token.replace(now) {
            None => {
                metrics
                    .first_token
                    .observe((now - self.arrived).as_secs_f64());
                let started = self.started.unwrap_or(now);
                metrics.prefill.observe((now - started).as_secs_f64());
                self.first_token = Some(now);
            }
            Some(last) => metrics.between_tokens.observe((now - last).as_secs_f64()),
        }
    }
}
