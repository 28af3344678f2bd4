//! Ids of calls that carry Gemini's proof of thoughts, since clients send back the id and nothing else.

/// What stands between an id and the proof; LiteLLM's word, so that its histories are understood.
const SEAL: &str = "__thought__";

/// The id that a client sees.
pub(super) fn seal(id: &str, signature: Option<&str>) -> String {
    match signature {
        Some(signature) => format!("{id}{SEAL}{signature}"),
        None => id.to_owned(),
    }
}

/// The id that an upstream sees, and the proof.
pub(super) fn unseal(id: String) -> (String, Option<String>) {
    match id.split_once(SEAL) {
        Some((bare, signature)) => (bare.to_owned(), Some(signature.to_owned())),
        None => (id, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{seal, unseal};

    #[test]
    fn a_sealed_id_opens_to_the_id_and_the_proof() {
        for signature in [None, Some("c2ln+/=")] {
            let sealed = seal("call_1", signature);
            let opened = (String::from("call_1"), signature.map(str::to_owned));
            assert_eq!(unseal(sealed), opened);
        }
    }
}
