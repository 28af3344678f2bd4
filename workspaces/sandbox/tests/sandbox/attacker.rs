//! The attacker: what a hostile program inside would try, one attack a name.
//!
//! An attack goes only as far as needed to know that it would work, so that the host survives one that gets through.

#[path = "attacker/files.rs"]
mod files;
#[path = "attacker/kernel.rs"]
mod kernel;
#[path = "attacker/neighbours.rs"]
mod neighbours;
#[path = "attacker/resources.rs"]
mod resources;

use std::io;
use std::process::ExitCode;

/// How an attack went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It works: what it got.
    Through(String),
    /// It was refused.
    Stopped(String),
    /// This kernel has not got what it attacks.
    Absent(String),
}

pub(crate) type Attack = fn(&[String]) -> Outcome;

impl Outcome {
    pub(crate) const THROUGH: i32 = 0;
    pub(crate) const STOPPED: i32 = 10;
    pub(crate) const ABSENT: i32 = 20;

    /// An attempt that works if the system says yes.
    fn of<T>(attempt: io::Result<T>) -> Self {
        match attempt {
            Ok(_) => Self::Through("it was allowed".to_owned()),
            Err(error) => Self::Stopped(error.to_string()),
        }
    }
}

/// The attack of a name.
pub(crate) fn find(name: &str) -> Option<Attack> {
    let all = files::ALL
        .iter()
        .chain(kernel::ALL)
        .chain(neighbours::ALL)
        .chain(resources::ALL);
    all.into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, attack)| *attack)
}

/// Runs one attack and says how it went by the exit code.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let Some(attack) = args.first().and_then(|name| find(name)) else {
        return ExitCode::from(99);
    };
    let (code, text) = match attack(&args[1..]) {
        Outcome::Through(text) => (Outcome::THROUGH, text),
        Outcome::Stopped(text) => (Outcome::STOPPED, text),
        Outcome::Absent(text) => (Outcome::ABSENT, text),
    };
    println!("{text}");
    ExitCode::from(u8::try_from(code).unwrap())
}

/// A system call as a result.
fn call(outcome: i64) -> io::Result<i64> {
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(outcome)
    }
}
