//! Batches of events as vLLM and SGLang write them, in MessagePack: lists, whose first element names the event.
//!
//! Everything that is not needed, the tokens first of all, is passed over without being kept.

use super::Change;
use crate::prefix::{Medium, hash};

/// Blocks of one event.
const BLOCKS_MAX: usize = 1 << 20;

/// The head of a value; lists and maps are followed by their elements.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Head<'a> {
    Nil,
    Number(u64),
    Bytes(&'a [u8]),
    List(usize),
    Map(usize),
    Other,
}

/// What is left of a message.
#[derive(Debug, Clone, Copy)]
struct Rest<'a>(&'a [u8]);

/// The changes that a batch tells of; `None` if it is none.
pub(super) fn changes(message: &[u8]) -> Option<Vec<Change>> {
    let mut rest = Rest(message);
    let Head::List(count) = rest.head()? else {
        return None;
    };
    if count < 2 {
        return None;
    }
    // When.
    rest.skip(1)?;
    let Head::List(events) = rest.head()? else {
        return None;
    };
    let mut changes = Vec::new();
    for _ in 0..events {
        changes.extend(rest.event()?);
    }
    Some(changes)
}

impl<'a> Rest<'a> {
    /// The next event; `Some(None)` for one of a kind that says nothing to us.
    #[expect(
        clippy::option_option,
        reason = "what cannot be read is not what says nothing"
    )]
    fn event(&mut self) -> Option<Option<Change>> {
        let begin = *self;
        let Head::List(fields) = self.head()? else {
            *self = begin;
            self.skip(1)?;
            return Some(None);
        };
        let mut end = *self;
        end.skip(fields)?;
        let change = self.fields(fields);
        *self = end;
        change
    }

    #[expect(
        clippy::option_option,
        reason = "what cannot be read is not what says nothing"
    )]
    fn fields(&mut self, fields: usize) -> Option<Option<Change>> {
        let Head::Bytes(kind) = self.head()? else {
            return Some(None);
        };
        Some(Some(match kind {
            b"BlockStored" if 5 <= fields => {
                let blocks = self.names()?;
                let parent = self.name()?;
                self.skip(1)?;
                let Head::Number(block_tokens) = self.head()? else {
                    return None;
                };
                if 7 <= fields {
                    self.skip(1)?;
                }
                Change::Stored {
                    blocks,
                    parent,
                    block_tokens: u32::try_from(block_tokens).ok()?,
                    medium: self.medium(7 <= fields)?,
                }
            }
            b"BlockRemoved" if 2 <= fields => Change::Removed {
                blocks: self.names()?,
                medium: self.medium(3 <= fields)?,
            },
            b"AllBlocksCleared" => Change::Cleared,
            _ => return Some(None),
        }))
    }

    fn medium(&mut self, is_there: bool) -> Option<Medium> {
        if !is_there {
            return Some(Medium::Device);
        }
        Some(match self.head()? {
            Head::Bytes(name) if name.eq_ignore_ascii_case(b"cpu") => Medium::Host,
            _ => Medium::Device,
        })
    }

    fn names(&mut self) -> Option<Vec<u64>> {
        let Head::List(count) = self.head()? else {
            return None;
        };
        // Each takes a byte at least.
        if BLOCKS_MAX.min(self.0.len()) < count {
            return None;
        }
        (0..count).map(|_| self.name()?).collect()
    }

    /// The name of a block, a number or bytes; `Some(None)` if there is none.
    #[expect(
        clippy::option_option,
        reason = "what cannot be read is not what is not there"
    )]
    fn name(&mut self) -> Option<Option<u64>> {
        match self.head()? {
            Head::Nil => Some(None),
            Head::Number(name) => Some(Some(name)),
            Head::Bytes(name) => Some(Some(hash(name))),
            Head::List(_) | Head::Map(_) | Head::Other => None,
        }
    }

    /// Passes so many values over, with all that is in them.
    fn skip(&mut self, count: usize) -> Option<()> {
        let mut left = count;
        while 0 < left {
            left -= 1;
            let inside = match self.head()? {
                Head::List(count) => count,
                Head::Map(count) => count.checked_mul(2)?,
                _ => 0,
            };
            left = left.checked_add(inside)?;
        }
        Some(())
    }

    fn head(&mut self) -> Option<Head<'a>> {
        let byte = *self.take(1)?.first()?;
        let low = usize::from(byte);
        Some(match byte {
            0x00..=0x7f => Head::Number(byte.into()),
            0x80..=0x8f => Head::Map(low & 0x0f),
            0x90..=0x9f => Head::List(low & 0x0f),
            0xa0..=0xbf => Head::Bytes(self.take(low & 0x1f)?),
            0xc0 => Head::Nil,
            0xc1 => return None,
            0xc2 | 0xc3 => Head::Other,
            0xc4 | 0xd9 => self.bytes(1)?,
            0xc5 | 0xda => self.bytes(2)?,
            0xc6 | 0xdb => self.bytes(4)?,
            0xc7 => self.extension(1)?,
            0xc8 => self.extension(2)?,
            0xc9 => self.extension(4)?,
            0xca => self.other(4)?,
            0xcb => self.other(8)?,
            0xcc..=0xcf => Head::Number(self.number(1 << (byte - 0xcc))?),
            // Names below zero only have to differ.
            0xd0..=0xd3 => Head::Number(self.number(1 << (byte - 0xd0))?),
            0xd4..=0xd8 => self.other((1 << (byte - 0xd4)) + 1)?,
            0xdc => Head::List(self.length(2)?),
            0xdd => Head::List(self.length(4)?),
            0xde => Head::Map(self.length(2)?),
            0xdf => Head::Map(self.length(4)?),
            0xe0..=0xff => Head::Number(byte.into()),
        })
    }

    fn bytes(&mut self, width: usize) -> Option<Head<'a>> {
        let length = self.length(width)?;
        self.take(length).map(Head::Bytes)
    }

    fn extension(&mut self, width: usize) -> Option<Head<'a>> {
        let length = self.length(width)?;
        self.other(length.checked_add(1)?)
    }

    fn other(&mut self, length: usize) -> Option<Head<'a>> {
        self.take(length).map(|_| Head::Other)
    }

    fn length(&mut self, width: usize) -> Option<usize> {
        usize::try_from(self.number(width)?).ok()
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        let bytes = self.take(width)?.iter();
        Some(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::{any, proptest};

    use super::changes;
    use crate::prefix::{Change, Medium, hash};

    /// A batch with a block that was stored, one that was removed, one of no kind, and all that were cleared.
    pub(crate) const BATCH: &[u8] = b"\x93\xcb\x41\xd9\x00\x00\x00\x00\x00\x00\x94\
        \x97\xabBlockStored\x92\xcf\x00\x00\x00\x00\x00\x00\x00\x2a\x07\xc0\xdc\x00\x03\x01\xcd\x01\x00\xce\x00\x01\x00\x00\x10\xc0\xa3GPU\
        \x93\xacBlockRemoved\x91\xc4\x02ab\xa3CPU\
        \x92\xa7Unknown\x82\xa1a\x91\x01\xa1b\xc2\
        \x91\xb0AllBlocksCleared\
        \x00";

    #[test]
    fn a_batch_is_read_and_what_is_not_needed_is_passed_over() {
        let stored = Change::Stored {
            blocks: vec![42, 7],
            parent: None,
            block_tokens: 16,
            medium: Medium::Device,
        };
        let removed = Change::Removed {
            blocks: vec![hash(b"ab")],
            medium: Medium::Host,
        };
        let expected = vec![stored, removed, Change::Cleared];
        assert_eq!(changes(BATCH), Some(expected));
        // As older engines write it, without adapters and media.
        let old =
            b"\x92\x00\x92\x95\xabBlockStored\x91\x01\x05\x90\x10\x92\xacBlockRemoved\x91\x01";
        let stored = Change::Stored {
            blocks: vec![1],
            parent: Some(5),
            block_tokens: 16,
            medium: Medium::Device,
        };
        let removed = Change::Removed {
            blocks: vec![1],
            medium: Medium::Device,
        };
        assert_eq!(changes(old), Some(vec![stored, removed]));
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        for end in 0..BATCH.len() - 1 {
            assert_eq!(changes(&BATCH[..end]), None, "{end} bytes");
        }
        // A list that says that it is longer than all memory.
        assert_eq!(
            changes(b"\x92\x00\x91\x93\xacBlockRemoved\xdd\xff\xff\xff\xff"),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = changes(&bytes);
        }
    }
}
