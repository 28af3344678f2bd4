//! Texts that match an expression of the route's own.

use protocol::snapshot::PATTERN_LENGTH_MAX;

use super::screen::{Rule, Screen};

/// Bytes at the end of a streamed text that wait for what comes behind.
const HOLD_BYTES_MAX: usize = 1024;

/// Compiles the patterns of a guard; what is masked becomes the guard's name.
///
/// # Errors
/// What is wrong with them.
pub(super) fn screen(name: &str, patterns: &[String]) -> Result<Screen, String> {
    let kind = name.to_ascii_uppercase().replace('-', "_");
    let rules = patterns.iter().map(|pattern| {
        if PATTERN_LENGTH_MAX < pattern.len() {
            return Err(format!(
                "a pattern is longer than {PATTERN_LENGTH_MAX} bytes"
            ));
        }
        Ok(Rule::new(&kind, pattern))
    });
    Screen::compile(rules.collect::<Result<_, _>>()?, HOLD_BYTES_MAX)
}
