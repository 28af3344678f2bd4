//! Sandboxes as they are: life, exec, limits, attacks, and what is left afterwards.
//!
//! The executable plays three parts: the tests, the helper that makes sandboxes, and the attacker inside.
#![expect(unsafe_code, reason = "attackers make raw system calls")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is all test code; without the standard harness clippy cannot see that"
)]

#[path = "sandbox/attacker.rs"]
mod attacker;
#[path = "sandbox/attacks.rs"]
mod attacks;
#[path = "sandbox/bench.rs"]
mod bench;
#[path = "sandbox/harness.rs"]
mod harness;
#[path = "sandbox/life.rs"]
mod life;
#[path = "sandbox/remains.rs"]
mod remains;
#[path = "sandbox/rootless.rs"]
mod rootless;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("sandbox-helper") => workspaces_sandbox::helper_main(&[]),
        Some("attack") => attacker::main(&args[1..]),
        Some("rootless-child") => rootless::child(),
        Some("caller") => {
            remains::caller(&args[1], &args[2]);
            ExitCode::SUCCESS
        }
        _ => {
            let tests: Vec<_> = life::tests()
                .into_iter()
                .chain(remains::tests())
                .chain(attacks::tests())
                .chain(rootless::tests())
                .collect();
            harness::main(&args, &tests)
        }
    }
}
