//! Data goes to standard output, talk to standard error.

use std::{fmt::Display, io::Write};

use clap::ValueEnum;
use serde::Serialize;

/// How commands print their result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Prints a line of data.
pub(crate) fn print(line: impl Display) {
    // A closed pipe (`qd … | head`) is the reader's choice, not a fault.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints data without a line's end, at once: streamed text.
pub(crate) fn print_part(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints raw bytes of data, at once.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) {
    print(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Says a line to the person.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Replaces the last line said, on a terminal; says it anew elsewhere only when `is_new`.
pub(crate) fn progress(line: impl Display, is_new: bool) {
    use std::io::IsTerminal;
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
    } else if is_new {
        say(line);
    }
}

/// Says a piece of streamed text to the person, at once.
pub(crate) fn progress_text(text: &str) {
    let mut err = std::io::stderr();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Ends a line of [`progress`].
pub(crate) fn progress_done() {
    use std::io::IsTerminal;
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
    }
}

/// Says why the command failed.
pub(crate) fn fail(error: &anyhow::Error) {
    say(format_args!("error: {error:#}"));
}

/// A table with columns as wide as their widest cell.
pub(crate) fn print_table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}", width = *width))
            .collect();
        print(padded.join("   ").trim_end());
    };
    line(&mut header.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}
