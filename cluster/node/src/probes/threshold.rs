//! How many results in a row make a probe pass or fail. Pure.

/// What a probe says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passes,
    Fails,
}

/// Counts results in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threshold {
    successes_needed: u32,
    failures_needed: u32,
    successes: u32,
    failures: u32,
}

impl Threshold {
    pub(crate) fn new(successes: Option<i32>, failures: Option<i32>) -> Self {
        let at_least_one = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(default)
                .max(1)
        };
        Self {
            successes_needed: at_least_one(successes, 1),
            failures_needed: at_least_one(failures, 3),
            successes: 0,
            failures: 0,
        }
    }

    /// Counts one result; `None` while too few are in a row.
    pub(crate) fn count(&mut self, is_success: bool) -> Option<Verdict> {
        if is_success {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            (self.successes >= self.successes_needed).then_some(Verdict::Passes)
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            (self.failures >= self.failures_needed).then_some(Verdict::Fails)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(successes: i32, failures: i32, results: &str, expected: &str) {
        let mut threshold = Threshold::new(Some(successes), Some(failures));
        let got: String = results
            .chars()
            .map(|result| match threshold.count(result == '+') {
                Some(Verdict::Passes) => 'P',
                Some(Verdict::Fails) => 'F',
                None => '.',
            })
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_probe_changes_its_mind_only_after_enough_results_in_a_row() {
        check(1, 3, "+--+---+", "P..P..FP");
        check(2, 1, "+-++", ".F.P");
        check(0, 0, "-+", "FP");
    }
}
