//! Values: an answer as it lies in Redis. A mark, the length of the head (32 bits, little endian), the head as JSON, the
//! body, whose CRC-32 is in the head.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    cache::{Form, Kept},
    provider::Tokens,
};

/// What a value of this version begins with.
const MARK: &[u8; 4] = b"qdc1";
/// Bytes of a value besides its body.
pub(super) const HEAD_BYTES_MAX: usize = 4096;

/// What is known of an answer.
#[derive(Serialize, Deserialize)]
struct Head {
    target: String,
    tokens: Option<Tokens>,
    kept_at_millis: i64,
    checksum: u32,
}

/// An answer as a value.
pub(super) fn encode(kept: &Kept) -> Vec<u8> {
    let age = i64::try_from(kept.kept_at.elapsed().as_millis()).unwrap_or(i64::MAX);
    let head = Head {
        target: kept.target.clone(),
        tokens: kept.tokens,
        kept_at_millis: Timestamp::now().as_millisecond().saturating_sub(age),
        checksum: crc32fast::hash(&kept.body),
    };
    // Texts and numbers serialise without fail.
    let head = serde_json::to_vec(&head).unwrap_or_default();
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
    [&MARK[..], &length.to_le_bytes(), &head, &kept.body].concat()
}

/// The answer of a value; `None` if it is not whole, or somebody else's.
pub(super) fn decode(form: Form, value: Vec<u8>) -> Option<Kept> {
    let (length, rest) = value.strip_prefix(MARK)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let head: Head = serde_json::from_slice(rest.get(..length)?).ok()?;
    let start = value.len() - rest.len() + length;
    let body = Bytes::from(value).slice(start..);
    if crc32fast::hash(&body) != head.checksum {
        return None;
    }
    let age = Timestamp::now()
        .as_millisecond()
        .saturating_sub(head.kept_at_millis);
    // Clocks of gateways differ a little: an answer from the future is one of now.
    let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
    Some(Kept {
        form,
        body,
        target: head.target,
        tokens: head.tokens,
        kept_at: Instant::now().checked_sub(age)?,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{decode, encode};
    use crate::{
        cache::{Form, Kept},
        provider::Tokens,
    };

    fn kept() -> Kept {
        Kept {
            target: "own".to_owned(),
            tokens: Some(Tokens {
                prompt: 3,
                ..Tokens::default()
            }),
            ..Kept::of(Form::Stream, Bytes::from_static(b"data: x\n\n"))
        }
    }

    #[test]
    fn a_value_is_the_answer_that_was_kept() {
        let found = decode(Form::Stream, encode(&kept())).unwrap();
        let expected = kept();
        assert_eq!(
            (found.form, found.body, found.target, found.tokens),
            (
                expected.form,
                expected.body,
                expected.target,
                expected.tokens
            )
        );
        assert!(found.kept_at.elapsed().as_secs() < 5);
    }

    #[test]
    fn what_is_cut_off_or_changed_is_no_answer() {
        let value = encode(&kept());
        for length in 0..value.len() {
            assert!(
                decode(Form::Stream, value[..length].to_vec()).is_none(),
                "{length}"
            );
        }
        for place in 0..value.len() {
            let mut changed = value.clone();
            changed[place] ^= 0x80;
            assert!(decode(Form::Stream, changed).is_none(), "{place}");
        }
    }
}
