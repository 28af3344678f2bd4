//! Grammars that were compiled before, by what they were compiled from.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{GrammarSpec, Reasoning};

/// Equal for equal wishes: a digest, so that large schemas are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(spec: &GrammarSpec, reasoning: Option<&Reasoning>) -> Self {
        // The order of a schema's properties matters, and `Debug` keeps it.
        let text = format!("{spec:?} {reasoning:?}");
        Self(Sha256::digest(text).into())
    }
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    bytes: usize,
    /// When it was used last.
    used: u64,
}

/// A map that forgets what was not used for longest.
#[derive(Debug)]
pub(super) struct Cache<T> {
    entries: HashMap<Key, Entry<T>>,
    count_max: usize,
    bytes_max: usize,
    /// Counts uses.
    clock: u64,
}

impl<T> Cache<T> {
    /// Holds at most this many entries, which take at most so many bytes together.
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            count_max,
            bytes_max,
            clock: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&mut self, key: &Key) -> Option<&T> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.clock;
        Some(&entry.value)
    }

    /// Keeps a value that takes about so many bytes, unless it is too large by itself.
    pub(super) fn insert(&mut self, key: Key, value: T, bytes: usize) {
        if self.bytes_max < bytes {
            return;
        }
        self.clock += 1;
        let used = self.clock;
        self.entries.insert(key, Entry { value, bytes, used });
        while self.count_max < self.entries.len() || self.bytes_max < self.bytes() {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.entries.remove(&oldest);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, GrammarSpec, Key};

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let key = |text: &str| Key::of(&GrammarSpec::Regex(text.to_owned()), None);
        let mut cache = Cache::new(2, 100);
        cache.insert(key("a"), 1, 10);
        cache.insert(key("b"), 2, 10);
        assert_eq!(cache.get(&key("a")), Some(&1));
        cache.insert(key("c"), 3, 10);
        assert_eq!(cache.get(&key("b")), None);
        assert_eq!(cache.get(&key("a")), Some(&1));
        assert_eq!(cache.get(&key("c")), Some(&3));
        cache.insert(key("too large to keep"), 4, 101);
        assert_eq!(cache.len(), 2);
        cache.insert(key("takes the place of all others"), 5, 95);
        assert_eq!(cache.len(), 1);
    }
}
