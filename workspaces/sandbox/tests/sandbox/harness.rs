//! A small test harness that speaks what `cargo nextest` and `cargo test` ask of one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test: a claim and its proof.
pub(crate) struct Test {
    pub name: String,
    pub run: Box<dyn Fn()>,
}

impl Test {
    pub(crate) fn new(name: impl Into<String>, run: impl Fn() + 'static) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
        }
    }
}

/// Lists or runs the tests that the arguments name.
pub(crate) fn main(args: &[String], tests: &[Test]) -> ExitCode {
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        if !has("--ignored") {
            for test in tests {
                println!("{}: test", test.name);
            }
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| {
        wanted.is_empty()
            || wanted.iter().any(|pattern| {
                if has("--exact") {
                    name == pattern.as_str()
                } else {
                    name.contains(pattern.as_str())
                }
            })
    };
    let mut failed = 0;
    for test in tests.iter().filter(|test| is_wanted(&test.name)) {
        let outcome = catch_unwind(AssertUnwindSafe(&test.run));
        println!(
            "test {} ... {}",
            test.name,
            if outcome.is_ok() { "ok" } else { "FAILED" }
        );
        failed += usize::from(outcome.is_err());
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
