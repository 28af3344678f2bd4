//! Marks in a text that comes in pieces: a mark may be cut anywhere.

/// How many bytes at the end of the text may be the beginning of the mark.
pub(super) fn overlap(text: &str, mark: &str) -> usize {
    let lengths = mark.char_indices().map(|(length, _)| length).skip(1);
    lengths
        .filter(|&length| text.ends_with(&mark[..length]))
        .last()
        .unwrap_or(0)
}

/// Whether this whole text may be the beginning of the mark, without being it.
pub(super) fn may_become(text: &str, mark: &str) -> bool {
    text.len() < mark.len() && mark.starts_with(text)
}

#[cfg(test)]
mod tests {
    use super::{may_become, overlap};

    #[test]
    fn the_end_of_a_text_may_begin_a_mark() {
        for (text, mark, expected) in [
            ("", "<think>", 0),
            ("say <", "<think>", 1),
            ("say <thin", "<think>", 5),
            ("say <think>", "<think>", 0),
            ("aab", "abab", 2),
            ("◁", "◁think▷", 3),
            ("x", "", 0),
        ] {
            assert_eq!(overlap(text, mark), expected, "{text:?} {mark:?}");
        }
        assert!(may_become("[TOOL", "[TOOL_CALLS]") && may_become("", "a"));
        assert!(!may_become("[TOOL_CALLS]", "[TOOL_CALLS]") && !may_become("x", "[TOOL"));
    }
}
