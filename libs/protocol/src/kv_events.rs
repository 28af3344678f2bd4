//! Events of an engine's prefix cache, in the words of vLLM's: which blocks it can answer from without computing them.
//!
//! They are served as server-sent events at `GET /kv_events`, a batch an event, with the batch's number as its id.

use serde::{Deserialize, Serialize};

/// Which memory holds a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Medium {
    /// That of the device that computes, whatever it is.
    Gpu,
    /// The host's memory behind the device.
    Cpu,
}

/// What has changed in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum KvCacheEvent {
    /// Blocks can be found from now on.
    BlockStored {
        /// Their names in hexadecimal, in the order of the sequence. A name depends on all tokens before.
        block_hashes: Vec<String>,
        /// The name of the block before them; none at the beginning of a sequence.
        parent_block_hash: Option<String>,
        /// Their tokens; empty in the host's memory, where they have been told before.
        token_ids: Vec<u32>,
        /// Tokens of a block.
        block_size: u32,
        /// The adapter that computed them.
        lora_id: Option<u32>,
        /// Where they are.
        medium: Medium,
    },
    /// Blocks can no longer be found.
    BlockRemoved {
        /// Their names.
        block_hashes: Vec<String>,
        /// Where they were.
        medium: Medium,
    },
    /// Nothing can be found any more.
    AllBlocksCleared,
}

/// What one step of the engine has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KvEventBatch {
    /// Counts up by one from batch to batch, from 1; a gap means that batches were missed.
    pub seq: u64,
    /// When, in Unix seconds.
    pub ts: f64,
    /// The changes, in order.
    pub events: Vec<KvCacheEvent>,
}

#[cfg(test)]
mod tests {
    use super::{KvCacheEvent, KvEventBatch, Medium};

    #[test]
    fn batches_read_as_they_are_written() {
        let stored = KvCacheEvent::BlockStored {
            block_hashes: vec!["0a".to_owned()],
            parent_block_hash: None,
            token_ids: vec![1, 2],
            block_size: 2,
            lora_id: None,
            medium: Medium::Gpu,
        };
        let batch = KvEventBatch {
            seq: 3,
            ts: 1.5,
            events: vec![stored, KvCacheEvent::AllBlocksCleared],
        };
        let text = serde_json::to_string(&batch).unwrap();
        let expected = r#"{"seq":3,"ts":1.5,"events":[{"type":"BlockStored","block_hashes":["0a"],"parent_block_hash":null,"token_ids":[1,2],"block_size":2,"lora_id":null,"medium":"GPU"},{"type":"AllBlocksCleared"}]}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<KvEventBatch>(&text).unwrap(), batch);
    }
}
