//! Edits of a body that leave every other byte as it came.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// A range of the body and what comes in its place; an empty range inserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// What is replaced.
    pub(crate) range: Range<usize>,
    /// What comes in its place.
    pub(crate) replacement: String,
}

/// Applies edits that do not overlap; without any, the body is shared and not copied.
pub(crate) fn splice(body: &Bytes, mut edits: Vec<Edit>) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    edits.sort_by_key(|edit| edit.range.start);
    let added: usize = edits.iter().map(|edit| edit.replacement.len()).sum();
    let mut spliced = BytesMut::with_capacity(body.len() + added);
    let mut kept = 0;
    for edit in edits {
        spliced.extend_from_slice(&body[kept..edit.range.start]);
        spliced.extend_from_slice(edit.replacement.as_bytes());
        kept = edit.range.end;
    }
    spliced.extend_from_slice(&body[kept..]);
    spliced.freeze()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use bytes::Bytes;

    use super::{Edit, splice};

    #[track_caller]
    fn check(body: &'static str, edits: &[(Range<usize>, &str)], expected: &str) {
        let edits = edits.iter().map(|(range, text)| Edit {
            range: range.clone(),
            replacement: (*text).to_owned(),
        });
        assert_eq!(
            splice(&Bytes::from_static(body.as_bytes()), edits.collect()),
            expected
        );
    }

    #[test]
    fn only_the_edited_bytes_change() {
        check("abcdef", &[], "abcdef");
        check("abcdef", &[(1..3, "X")], "aXdef");
        check("abcdef", &[(4..5, ""), (0..0, "<")], "<abcdf");
        check("abcdef", &[(0..6, "")], "");
        check("abcdef", &[(6..6, ">"), (2..4, "-long-")], "ab-long-ef>");
    }
}
