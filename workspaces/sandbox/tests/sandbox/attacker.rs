//! The attacker inside.
use std::process::ExitCode;
pub(crate) fn main(_args: &[String]) -> ExitCode { ExitCode::SUCCESS }
