//! Bounds: as much of a list as fits, with long texts cut, as JSON that stays valid.

use serde_json::Value;

/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// What stands at the end of a text that is cut.
const CUT: &str = "[cut]";

/// From which end on entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The first entries.
    First,
    /// The last ones.
    Last,
}

/// How much of a list is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Bytes of its JSON.
    pub(super) bytes_max: usize,
    /// From which end on.
    pub(super) end: End,
}

/// What is kept of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The list as JSON.
    pub(super) text: String,
    /// Entries that did not fit.
    pub(super) without: usize,
}

impl Budget {
    /// Keeps what fits.
    pub(super) fn keep(self, list: Vec<Value>) -> Kept {
        let count = list.len();
        // The brackets.
        let mut left = self.bytes_max.saturating_sub(2);
        let mut texts = Vec::new();
        let mut take = |mut entry: Value| {
            cut(&mut entry);
            let text = entry.to_string();
            let needed = text.len() + usize::from(!texts.is_empty());
            let fits = needed <= left;
            if fits {
                left -= needed;
                texts.push(text);
            }
            fits
        };
        match self.end {
            End::First => list.into_iter().all(&mut take),
            End::Last => list.into_iter().rev().all(&mut take),
        };
        if self.end == End::Last {
            texts.reverse();
        }
        Kept {
            without: count - texts.len(),
            text: format!("[{}]", texts.join(",")),
        }
    }
}

/// Cuts all long texts of a value.
fn cut(value: &mut Value) {
    match value {
        Value::String(text) if TEXT_BYTES_MAX < text.len() => {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX - CUT.len()));
            text.push_str(CUT);
        }
        Value::Array(values) => values.iter_mut().for_each(cut),
        Value::Object(fields) => fields.values_mut().for_each(cut),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Budget, CUT, End, Kept, TEXT_BYTES_MAX};

    #[track_caller]
    fn check(list: &[&str], bytes_max: usize, end: End, text: &str, without: usize) {
        let list = list.iter().map(|text| json!(text)).collect();
        let text = text.to_owned();
        let kept = Budget { bytes_max, end }.keep(list);
        assert_eq!(kept, Kept { text, without });
    }

    #[test]
    fn what_fits_is_kept_from_its_end_on() {
        check(&["a", "b", "c"], 100, End::Last, r#"["a","b","c"]"#, 0);
        check(&["a", "b", "c"], 13, End::Last, r#"["a","b","c"]"#, 0);
        check(&["a", "b", "c"], 12, End::Last, r#"["b","c"]"#, 1);
        check(&["a", "b", "c"], 12, End::First, r#"["a","b"]"#, 1);
        // Nothing is told out of its order: what does not fit ends the list.
        check(&["a", "bbbbbbbbb", "c"], 12, End::First, r#"["a"]"#, 2);
        check(&["a"], 4, End::First, "[]", 1);
        check(&[], 0, End::First, "[]", 0);
    }

    #[test]
    fn a_long_text_is_cut_between_two_letters() {
        let list = vec![json!({"parts": [{"content": "ü".repeat(TEXT_BYTES_MAX)}]})];
        let budget = Budget {
            bytes_max: 2 * TEXT_BYTES_MAX,
            end: End::First,
        };
        let Kept { text, without } = budget.keep(list);
        let kept: Value = serde_json::from_str(&text).unwrap();
        let content = kept[0]["parts"][0]["content"].as_str().unwrap();
        assert!(
            content.len() <= TEXT_BYTES_MAX && content.ends_with(CUT),
            "{content}"
        );
        assert_eq!(without, 0);
    }
}
