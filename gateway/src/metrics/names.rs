//! Names of models in labels, where clients choose among all that a provider has: as many as are answered, up to a
//! limit; beyond it, what stands for all of a target's.

use std::collections::HashSet;

use parking_lot::RwLock;

/// Names that become labels, of all targets together, until the gateway ends.
const NAMES_MAX: usize = 256;

/// The names that have become labels.
#[derive(Debug, Default)]
pub(crate) struct ModelNames(RwLock<HashSet<Box<str>>>);

impl ModelNames {
    /// The label for a model's name: the name itself if an upstream has answered to it, as long as there is room, or
    /// `all`, what stands for all names of its target.
    pub(crate) fn label<'a>(&self, name: &'a str, all: &'a str, is_answered: bool) -> &'a str {
        if self.0.read().contains(name) {
            return name;
        }
        if !is_answered {
            return all;
        }
        let mut known = self.0.write();
        if known.len() < NAMES_MAX {
            known.insert(name.into());
        }
        if known.contains(name) { name } else { all }
    }
}

#[cfg(test)]
mod tests {
    use super::{ModelNames, NAMES_MAX};

    #[test]
    fn names_that_are_answered_become_labels_up_to_a_limit() {
        let names = ModelNames::default();
        assert_eq!(names.label("wrong", "*", false), "*");
        assert_eq!(names.label("gpt-4o", "*", true), "gpt-4o");
        assert_eq!(names.label("gpt-4o", "*", false), "gpt-4o");
        for number in 1..NAMES_MAX {
            let name = number.to_string();
            assert_eq!(names.label(&name, "*", true), name);
        }
        assert_eq!(names.label("one-more", "x/*", true), "x/*");
        assert_eq!(names.label("gpt-4o", "*", true), "gpt-4o");
    }
}
