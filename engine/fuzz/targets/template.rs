//! Any text as a chat template.
#![no_main]

use engine_models::{ChatInput, ChatTemplate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    if let Ok(template) = ChatTemplate::new(source) {
        let input = ChatInput {
            messages: Vec::new(),
            tools: None,
            add_generation_prompt: true,
            bos_token: "<s>",
            eos_token: "</s>",
            extra: Default::default(),
        };
        drop(template.render(&input, |_| String::new()));
    }
});
