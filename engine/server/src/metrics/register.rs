//! The names of all metrics.

use super::Metrics;

impl Metrics {
    pub(super) fn register(&mut self) {
        self.register_state();
        self.register_tokens();
        self.register_speculation();
        self.register_requests();
        self.register_times();
        self.register_sizes();
    }

    fn register_state(&mut self) {
        let registry = &mut self.registry;
        for (name, help, gauge) in [
            (
                "vllm:num_requests_running",
                "Requests that are computed",
                &self.running,
            ),
            (
                "vllm:num_requests_waiting",
                "Requests that wait to be computed",
                &self.waiting,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        let help = "Requests that wait to be computed, by what they wait for";
        registry.register(
            "vllm:num_requests_waiting_by_reason",
            help,
            self.waiting_by_reason.clone(),
        );
        let help = "Share of the cache in use, 0 to 1";
        registry.register("vllm:kv_cache_usage_perc", help, self.cache_usage.clone());
        let help = "Which state of sleep the engine is in";
        registry.register("vllm:engine_sleep_state", help, self.sleep_state.clone());
        let help = "The shape of the cache";
        registry.register("vllm:cache_config_info", help, self.cache_config.clone());
        let help = "Adapters in use, at this Unix time";
        registry.register("vllm:lora_requests_info", help, self.loras.clone());
        let help = "Most sequences that one step has computed";
        registry.register(
            "quarterdeck_engine_batch_sequences_max",
            help,
            self.batch_max.clone(),
        );
    }

    fn register_tokens(&mut self) {
        let registry = &mut self.registry;
        for (name, help, counter) in [
            ("vllm:prompt_tokens", "Prompt tokens", &self.prompt_tokens),
            (
                "vllm:prompt_tokens_cached",
                "Prompt tokens out of the prefix cache",
                &self.prompt_tokens_cached,
            ),
            (
                "vllm:generation_tokens",
                "Generated tokens",
                &self.generation_tokens,
            ),
            (
                "vllm:num_preemptions",
                "Sequences that gave their blocks back",
                &self.preemptions,
            ),
            (
                "vllm:prefix_cache_queries",
                "Tokens looked for in the prefix cache",
                &self.prefix_queries,
            ),
            (
                "vllm:prefix_cache_hits",
                "Tokens found in the prefix cache",
                &self.prefix_hits,
            ),
            (
                "vllm:external_prefix_cache_queries",
                "Tokens looked for in the host's memory",
                &self.host_queries,
            ),
            (
                "vllm:external_prefix_cache_hits",
                "Tokens found in the host's memory",
                &self.host_hits,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, family) in [
            (
                "vllm:prompt_tokens_by_source",
                "Prompt tokens by where they came from",
                &self.prompt_tokens_by_source,
            ),
            (
                "vllm:prompt_tokens_cached_by_source",
                "Cached prompt tokens by memory",
                &self.prompt_tokens_cached_by_source,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    fn register_speculation(&mut self) {
        let registry = &mut self.registry;
        for (name, help, counter) in [
            (
                "vllm:spec_decode_num_drafts",
                "Times that tokens were proposed",
                &self.drafts,
            ),
            (
                "vllm:spec_decode_num_draft_tokens",
                "Proposed tokens",
                &self.draft_tokens,
            ),
            (
                "vllm:spec_decode_num_accepted_tokens",
                "Proposed tokens that were right",
                &self.accepted_tokens,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        let (name, help) = (
            "vllm:spec_decode_num_accepted_tokens_per_pos",
            "Proposed tokens that were right, by place",
        );
        registry.register(name, help, self.accepted_by_position.clone());
    }

    fn register_requests(&mut self) {
        let registry = &mut self.registry;
        let help = "Requests refused because too many wait";
        registry.register("vllm:admission_rejections", help, self.rejections.clone());
        let help = "Finished requests by reason";
        registry.register("vllm:request_success", help, self.success.clone());
    }

    fn register_times(&mut self) {
        let registry = &mut self.registry;
        for (name, help, histogram) in [
            (
                "vllm:time_to_first_token_seconds",
                "Time to the first token",
                &self.first_token,
            ),
            (
                "vllm:inter_token_latency_seconds",
                "Time between tokens",
                &self.between_tokens,
            ),
            (
                "vllm:request_time_per_output_token_seconds",
                "Mean time between the tokens of a request",
                &self.mean_between_tokens,
            ),
            (
                "vllm:e2e_request_latency_seconds",
                "Time of whole requests",
                &self.whole_request,
            ),
            (
                "vllm:request_queue_time_seconds",
                "Time that requests wait",
                &self.queued,
            ),
            (
                "vllm:request_inference_time_seconds",
                "Time from the start to the last token",
                &self.inference,
            ),
            (
                "vllm:request_prefill_time_seconds",
                "Time from the start to the first token",
                &self.prefill,
            ),
            (
                "vllm:request_decode_time_seconds",
                "Time from the first token to the last",
                &self.decode,
            ),
        ] {
            registry.register(name, help, histogram.clone());
        }
    }

    fn register_sizes(&mut self) {
        let registry = &mut self.registry;
        for (name, help, histogram) in [
            (
                "vllm:iteration_tokens_total",
                "Tokens computed in a step",
                &self.step_tokens,
            ),
            (
                "vllm:request_prompt_tokens",
                "Prompt tokens of a request",
                &self.request_prompt,
            ),
            (
                "vllm:request_generation_tokens",
                "Generated tokens of a request",
                &self.request_generation,
            ),
            (
                "vllm:request_max_num_generation_tokens",
                "Most generated tokens of a request's answers",
                &self.request_generation_max,
            ),
            (
                "vllm:request_num_preemptions",
                "How often a request gave its blocks back",
                &self.request_preemptions,
            ),
            (
                "vllm:request_prefill_kv_computed_tokens",
                "Prompt tokens of a request that were computed",
                &self.request_computed,
            ),
            (
                "vllm:request_params_n",
                "Answers that a request asks for",
                &self.params_n,
            ),
            (
                "vllm:request_params_max_tokens",
                "Most tokens that a request asks for",
                &self.params_max_tokens,
            ),
            (
                "quarterdeck_engine_batch_sequences",
                "Sequences computed in a step",
                &self.batch,
            ),
        ] {
            registry.register(name, help, histogram.clone());
        }
    }
}
