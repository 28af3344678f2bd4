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

/// A map that forgets what was not used for longest.
#[derive(Debug)]
pub(super) struct Cache<T> {
    entries: HashMap<Key, (u64, T)>,
    count_max: usize,
    /// Counts uses.
    clock: u64,
}

impl<T> Cache<T> {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            count_max,
            clock: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&mut self, key: &Key) -> Option<&T> {
        self.clock += 1;
        let (used, entry) = self.entries.get_mut(key)?;
        *used = self.clock;
        Some(entry)
    }

    pub(super) fn insert(&mut self, key: Key, entry: T) {
        self.clock += 1;
        if self.count_max <= self.entries.len() && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(key, (self.clock, entry));
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, GrammarSpec, Key};

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let key = |text: &str| Key::of(&GrammarSpec::Regex(text.to_owned()), None);
        let mut cache = Cache::new(2);
        cache.insert(key("a"), 1);
        cache.insert(key("b"), 2);
        assert_eq!(cache.get(&key("a")), Some(&1));
        cache.insert(key("c"), 3);
        assert_eq!(cache.get(&key("b")), None);
        assert_eq!(cache.get(&key("a")), Some(&1));
        assert_eq!(cache.get(&key("c")), Some(&3));
        assert_eq!(cache.len(), 2);
    }
}
