//! What a generation of models takes, told by the model's name, since the API does not tell.

/// How a model is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThinkingStyle {
    /// By a budget of tokens.
    Budget,
    /// By an effort; the model decides how much it thinks.
    Adaptive,
}

/// Claude 3 to 4.5 know budgets only; what came after, and what is not Claude, knows efforts.
pub(super) fn thinking_style(model: &str) -> ThinkingStyle {
    let knows_budgets = |line: &str| model.contains(line);
    let old = [
        "claude-3",
        "-4-0",
        "-4-1",
        "-4-5",
        "-4-2025",
        "claude-opus-4@",
        "claude-sonnet-4@",
    ];
    if model.contains("claude") && old.into_iter().any(knows_budgets) {
        ThinkingStyle::Budget
    } else {
        ThinkingStyle::Adaptive
    }
}

/// Whether a model can promise JSON of a schema: Claude can from 4.5.
pub(in crate::wire) fn knows_formats(model: &str) -> bool {
    let old = [
        "claude-2",
        "claude-instant",
        "claude-3",
        "-4-0",
        "-4-1",
        "-4-2025",
        "claude-opus-4@",
        "claude-sonnet-4@",
    ];
    !model.contains("claude") || !old.into_iter().any(|line| model.contains(line))
}

/// Most tokens of an answer whose client names no limit, since this API wants one: what every model of the
/// generation can give.
pub(super) fn max_tokens(model: &str) -> u64 {
    match model {
        _ if model.contains("claude-3-5") => 8192,
        _ if model.contains("claude-3-7") => 32_000,
        _ if model.contains("claude-3") => 4096,
        _ if model.contains("claude") => 32_000,
        // Servers with contexts of their own: more would leave no room for the prompt.
        _ => 4096,
    }
}

#[cfg(test)]
mod tests {
    use super::{ThinkingStyle, knows_formats, max_tokens, thinking_style};

    #[track_caller]
    fn check(model: &str, style: ThinkingStyle, tokens: u64) {
        assert_eq!((thinking_style(model), max_tokens(model)), (style, tokens));
    }

    #[test]
    fn a_models_name_tells_how_it_thinks_and_how_long_it_answers() {
        check("claude-3-haiku-20240307", ThinkingStyle::Budget, 4096);
        check("claude-3-5-sonnet-20241022", ThinkingStyle::Budget, 8192);
        check("claude-3-7-sonnet-latest", ThinkingStyle::Budget, 32_000);
        check("claude-sonnet-4-20250514", ThinkingStyle::Budget, 32_000);
        check("claude-sonnet-4-5-20250929", ThinkingStyle::Budget, 32_000);
        check("claude-opus-4-6", ThinkingStyle::Adaptive, 32_000);
        check("claude-opus-5-5", ThinkingStyle::Adaptive, 32_000);
        check("qwen3", ThinkingStyle::Adaptive, 4096);
    }

    #[test]
    fn a_models_name_tells_whether_it_can_promise_a_schema() {
        for old in [
            "claude-3-7-sonnet-latest",
            "claude-sonnet-4-20250514",
            "claude-sonnet-4@20250514",
            "anthropic.claude-opus-4-1-20250805-v1:0",
        ] {
            assert!(!knows_formats(old), "{old}");
        }
        for new in [
            "claude-sonnet-4-5-20250929",
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "claude-opus-4-6",
            "qwen3",
        ] {
            assert!(knows_formats(new), "{new}");
        }
    }
}
