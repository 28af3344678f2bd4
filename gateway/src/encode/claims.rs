//! What must hold of streams that are passed on, whatever their bytes and however they are cut.

use bytes::Bytes;
use memchr::memmem;
use protocol::sse::{Event, Parser, data_of, find_event};

use super::events::{Events, Tally};
use crate::{
    call::Operation,
    fuzzing::{Cut, byte},
};

/// Bytes of an event; nothing that is made up is as long.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Events are the same however their bytes are cut, they are passed on byte for byte, and every client reads them as
/// they were read here.
pub fn events(bytes: &[u8]) {
    let (choice, rest) = byte(bytes);
    let cut = Cut::of(rest);
    let operations = [
        Operation::Chat,
        Operation::Message,
        Operation::Response,
        Operation::Transcription,
    ];
    let operation = operations[usize::from(choice) % operations.len()];
    for shows_usage in [true, false] {
        let whole = pass(operation, shows_usage, [cut.whole].into_iter());
        assert_eq!(whole, pass(operation, shows_usage, cut.chunks()));
        if shows_usage {
            assert!(cut.whole.starts_with(&whole.0), "bytes have changed");
            check_read_alike(operation, cut.whole);
        }
    }
}

/// What is passed on, and what was seen of it.
fn pass<'a>(
    operation: Operation,
    shows_usage: bool,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Tally) {
    let mut events = Events::new(operation, shows_usage);
    let mut passed = Vec::new();
    for chunk in chunks {
        let shown = events.push(Bytes::copy_from_slice(chunk));
        assert!(shown.is_ok(), "nothing is too long");
        passed.extend_from_slice(&shown.unwrap_or_default());
    }
    (passed, events.tally())
}

/// What clients read of the stream is what they read of what was passed on, and what is read here.
fn check_read_alike(operation: Operation, stream: &[u8]) {
    // What follows shows that a carriage return at the end is not half of a line's end.
    let followed = |bytes: &[u8]| [bytes, b":"].concat();
    let read = |bytes: &[u8]| Parser::new(EVENT_BYTES_MAX).push(bytes);
    let stream = &followed(stream);
    let (passed, _) = pass(operation, true, [&stream[..]].into_iter());
    let passed = followed(&passed);
    let Ok(of_clients) = read(stream) else {
        return;
    };
    assert_eq!(read(&passed).as_ref(), Ok(&of_clients));
    // What stands behind a mark in the middle is seen here, though clients take it for no data.
    if memmem::rfind(stream, b"\xef\xbb\xbf").is_some_and(|place| 0 < place) {
        return;
    }
    let mut rest = &passed[..];
    let mut ours = Vec::new();
    while let Ok(length) = find_event(rest, 0) {
        let (event, behind) = rest.split_at(length);
        rest = behind;
        let lines = data_of(event).map(|line| String::from_utf8_lossy(&event[line]));
        let lines: Vec<_> = lines.collect();
        if !lines.is_empty() {
            ours.push(lines.join("\n"));
        }
    }
    let of_clients = of_clients.into_iter().map(|Event { data, .. }| data);
    assert_eq!(ours, of_clients.collect::<Vec<_>>());
}
