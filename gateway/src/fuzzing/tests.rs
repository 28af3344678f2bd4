//! The claims, for a moment: of what was kept because it once did not hold or leads far, and of what is like it.

use std::{fs, path::PathBuf};

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};

use super::CLAIMS;

/// The inputs that are kept for a target.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect()
}

/// A kept input, or one after the other, with some of its bytes replaced.
fn like(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let words = vec![
        "\"", "\\", "{", "}", "[", "]", ",", ":", "\r", "\n", "\n\n", "\r\n--XX", "data:", "null",
        "\u{fc}",
    ];
    let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let replacement = prop_oneof![word, vec(any::<u8>(), 0..3)];
    let change = (any::<Index>(), 0..6_usize, replacement);
    let seeds = vec(proptest::sample::select(seeds), 1..3);
    (seeds, vec(change, 0..6)).prop_map(|(seeds, changes)| {
        let mut bytes = seeds.concat();
        for (place, length, replacement) in changes {
            let begin = place.index(bytes.len() + 1);
            let end = (begin + length).min(bytes.len());
            bytes.splice(begin..end, replacement);
        }
        bytes
    })
}

#[test]
fn all_claims_hold_of_what_is_kept_and_of_what_is_like_it() {
    for (name, claim) in CLAIMS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| claim(seed));
        let mut runner = TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let held = runner.run(&like(seeds), |bytes| {
            claim(&bytes);
            Ok(())
        });
        held.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
