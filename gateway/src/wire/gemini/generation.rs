//! How a generation of Gemini's models is told to think, told by the model's name.

use serde_json::{Value, json};

use crate::wire::conversation::{Effort, Reasoning};

/// Most tokens of thoughts that all models with budgets take.
const BUDGET_MAX: u64 = 24_576;
/// Fewest tokens of thoughts of models that always think.
const BUDGET_MIN_PRO: u64 = 128;

/// Whether calls of tools in the conversation must carry the proof of the thoughts before them.
pub(super) fn needs_signatures(model: &str) -> bool {
    is_third(model)
}

fn is_second_thinking(model: &str) -> bool {
    model.contains("gemini-2.5")
}

fn is_third(model: &str) -> bool {
    let Some((_, version)) = model.split_once("gemini-") else {
        return false;
    };
    version
        .split(|letter: char| !letter.is_ascii_digit())
        .next()
        .and_then(|version| version.parse::<u32>().ok())
        .is_some_and(|version| 3 <= version)
}

/// Whether a model takes JSON schemas as they are; Gemini does from 2.5.
pub(super) fn knows_json_schemas(model: &str) -> bool {
    let old = ["gemini-1", "gemini-2.0"];
    !old.into_iter().any(|line| model.contains(line))
}

/// `thinkingConfig`; `None` for models that do not know it.
pub(super) fn thinking_config(model: &str, reasoning: Reasoning) -> Option<Value> {
    if is_second_thinking(model) {
        return Some(budget(model.contains("pro"), reasoning));
    }
    is_third(model).then(|| level(model, reasoning))
}

fn budget(always_thinks: bool, reasoning: Reasoning) -> Value {
    let least = if always_thinks { BUDGET_MIN_PRO } else { 0 };
    let shown = |tokens: u64| {
        let tokens = tokens.clamp(least, BUDGET_MAX);
        json!({"includeThoughts": true, "thinkingBudget": tokens})
    };
    match reasoning {
        Reasoning::Off => json!({"thinkingBudget": least}),
        Reasoning::Adaptive => json!({"includeThoughts": true, "thinkingBudget": -1}),
        Reasoning::Effort(effort) => shown(effort.budget()),
        Reasoning::Budget(tokens) => shown(tokens),
    }
}

fn level(model: &str, reasoning: Reasoning) -> Value {
    let effort = match reasoning {
        Reasoning::Adaptive => return json!({"includeThoughts": true}),
        Reasoning::Off => Effort::Minimal,
        Reasoning::Effort(effort) => effort,
        Reasoning::Budget(tokens) => Effort::of_budget(tokens),
    };
    let word = match effort {
        // Only the small models can do with hardly any thoughts.
        Effort::Minimal if model.contains("flash") => "MINIMAL",
        Effort::Minimal | Effort::Low => "LOW",
        // The first of the third generation knows two levels.
        Effort::Medium if !model.contains("gemini-3-pro") => "MEDIUM",
        Effort::Medium | Effort::High | Effort::XHigh | Effort::Max => "HIGH",
    };
    match reasoning {
        Reasoning::Off => json!({"thinkingLevel": word}),
        _ => json!({"includeThoughts": true, "thinkingLevel": word}),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Effort, Reasoning, thinking_config};

    #[track_caller]
    fn check(model: &str, reasoning: Reasoning, expected: impl Into<Value>) {
        let config = thinking_config(model, reasoning).unwrap_or_default();
        assert_eq!(config, expected.into(), "{model}");
    }

    #[test]
    fn each_generation_is_told_to_think_in_its_own_words() {
        let shown = |name: &str, value: Value| json!({"includeThoughts": true, name: value});
        let budget = |tokens: i64| shown("thinkingBudget", json!(tokens));
        let high = Reasoning::Effort(Effort::High);
        check("gemini-2.5-flash", high, budget(16_384));
        check(
            "gemini-2.5-flash",
            Reasoning::Budget(99_999),
            budget(24_576),
        );
        check("gemini-2.5-flash", Reasoning::Adaptive, budget(-1));
        check(
            "gemini-2.5-flash",
            Reasoning::Off,
            json!({"thinkingBudget": 0}),
        );
        check(
            "gemini-2.5-pro",
            Reasoning::Off,
            json!({"thinkingBudget": 128}),
        );
        let level = |word: &str| shown("thinkingLevel", json!(word));
        check(
            "gemini-3-flash-preview",
            Reasoning::Effort(Effort::Medium),
            level("MEDIUM"),
        );
        check(
            "gemini-3-pro-preview",
            Reasoning::Effort(Effort::Medium),
            level("HIGH"),
        );
        check("gemini-3.1-pro", Reasoning::Budget(100), level("LOW"));
        check(
            "gemini-3-flash",
            Reasoning::Off,
            json!({"thinkingLevel": "MINIMAL"}),
        );
        check(
            "gemini-3-pro",
            Reasoning::Adaptive,
            json!({"includeThoughts": true}),
        );
        check("gemini-2.0-flash", high, Value::Null);
        check("gemma-3-27b-it", high, Value::Null);
    }
}
