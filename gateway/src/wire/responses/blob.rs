//! Thoughts in `encrypted_content`: the maker's proof and the thoughts, which clients send back as they came.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::wire::conversation::{PartKind, Thinking};

/// What our blobs begin with; those of others only their makers can read.
const MARK: &str = "qd1.";

/// What a blob holds.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Blob {
    Thinking { text: String, signature: String },
    Redacted { data: String },
}

/// The blob of thoughts with a proof; those without one need none.
pub(super) fn of_thinking(thinking: &Thinking) -> Option<String> {
    let signature = thinking.signature.clone()?;
    let text = thinking.text.clone();
    Some(seal(&Blob::Thinking { text, signature }))
}

/// The blob of thoughts that only their maker can read.
pub(super) fn of_redacted(data: &str) -> String {
    let data = data.to_owned();
    seal(&Blob::Redacted { data })
}

fn seal(blob: &Blob) -> String {
    let json = serde_json::to_vec(blob).unwrap_or_default();
    [MARK, &STANDARD.encode(json)].concat()
}

/// What one of our blobs holds.
pub(super) fn open(blob: &str) -> Option<PartKind> {
    let json = STANDARD.decode(blob.strip_prefix(MARK)?).ok()?;
    Some(match serde_json::from_slice(&json).ok()? {
        Blob::Thinking { text, signature } => PartKind::Thinking(Thinking {
            text,
            signature: Some(signature),
        }),
        Blob::Redacted { data } => PartKind::Redacted(data),
    })
}

#[cfg(test)]
mod tests {
    use super::{PartKind, Thinking, of_redacted, of_thinking, open};

    #[test]
    fn a_blob_opens_to_the_thoughts_and_a_strange_one_does_not() {
        let thinking = Thinking {
            text: "Grüße".to_owned(),
            signature: Some("c2ln".to_owned()),
        };
        let blob = of_thinking(&thinking).unwrap();
        assert_eq!(open(&blob), Some(PartKind::Thinking(thinking)));
        let redacted = PartKind::Redacted("x".to_owned());
        assert_eq!(open(&of_redacted("x")), Some(redacted));
        for strange in ["", "gAAAAAB", "qd1.", "qd1.???", "qd1.e30="] {
            assert_eq!(open(strange), None, "{strange}");
        }
    }
}
