//! What must hold of guards, whatever the text and however it comes.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::FutureExt;
use protocol::snapshot::{self, Action, GuardRule, Mode, Phases};
use serde_json::{Value, json};

use super::{Guards, Session};
use crate::{
    call::{Call, Operation},
    fault::Fault,
    fuzzing::{Cut, byte},
    metrics::Metrics,
};

/// Bytes of a text; of longer ones not all that may become a finding is held back.
const TEXT_BYTES_MAX: usize = 300;

/// Guards of answers, and last some of requests.
static GUARDS: LazyLock<Vec<Arc<Guards>>> = LazyLock::new(|| {
    let pii = || GuardRule::Pii { kinds: Vec::new() };
    let regex = || GuardRule::Regex {
        patterns: vec!["secret( [0-9]+)?".to_owned(), r"ü+x|\bgeheim\b".to_owned()],
    };
    let guard = |on, action, rule| snapshot::Guard {
        name: "g".to_owned(),
        on,
        action,
        mode: Mode::Enforce,
        rule,
    };
    let mask = |rule| guard(Phases::Answers, Action::Mask, rule);
    let all = [
        vec![mask(pii())],
        vec![mask(regex())],
        vec![mask(GuardRule::Secrets)],
        vec![guard(Phases::Answers, Action::Block, regex())],
        vec![mask(regex()), mask(pii()), mask(GuardRule::Secrets)],
        vec![guard(Phases::Requests, Action::Mask, pii())],
    ];
    let compiled = all
        .iter()
        .filter_map(|guards| Guards::compile(guards).ok()?);
    let compiled: Vec<_> = compiled.map(Arc::new).collect();
    assert_eq!(compiled.len(), all.len());
    compiled
});

static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(Arc::default);

/// A stream says what the whole answer says, however its text is cut, and what was masked in a request comes back.
pub fn guards(bytes: &[u8]) {
    let (choice, rest) = byte(bytes);
    let cut = Cut::of(rest);
    let Ok(text) = std::str::from_utf8(cut.whole) else {
        return;
    };
    if TEXT_BYTES_MAX < text.len() {
        return;
    }
    let place = usize::from(choice) % GUARDS.len();
    let session = || {
        let call = Call::new("req_7".to_owned(), Operation::Chat);
        Session::new(&GUARDS[place], "ns/r", &call, &METRICS, None)
    };
    if place + 1 < GUARDS.len() {
        let whole = answered(session(), text);
        assert_eq!(streamed(session(), &pieces(text, &cut)), whole);
    } else {
        check_undone(session(), text);
    }
}

/// The model answers what it was asked, and the client reads what it sent.
fn check_undone(mut session: Session, text: &str) {
    let body = json!({"messages": [{"role": "user", "content": text}]});
    let masked = at_once(session.request(&Bytes::from(body.to_string())));
    let masked = content(&masked.unwrap_or_default(), "/messages/0/content");
    let (first, second) = masked.split_at(masked.floor_char_boundary(text.len() / 2));
    assert_eq!(
        streamed(session, &[first, second]).as_deref(),
        Some(text),
        "{masked}"
    );
}

/// The text, cut where characters end.
fn pieces<'a>(text: &'a str, cut: &Cut<'_>) -> Vec<&'a str> {
    let (mut begin, mut at) = (0, 0);
    let mut pieces = Vec::new();
    for chunk in cut.chunks() {
        at += chunk.len();
        if text.is_char_boundary(at) {
            pieces.push(&text[begin..at]);
            begin = at;
        }
    }
    pieces
}

/// What passes these guards, none of which asks anybody; `None` if it is withheld.
fn at_once(passing: impl Future<Output = Result<Bytes, Fault>>) -> Option<Bytes> {
    passing.now_or_never()?.ok()
}

fn content(body: &[u8], pointer: &str) -> String {
    let body = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let content = body.pointer(pointer).and_then(Value::as_str);
    content.unwrap_or_default().to_owned()
}

/// What is passed on of a whole answer; `None` if it is withheld.
fn answered(mut session: Session, text: &str) -> Option<String> {
    let body = json!({"choices": [{"message": {"content": text}}]}).to_string();
    let passed = at_once(session.answer(Operation::Chat, Bytes::from(body)))?;
    Some(content(&passed, "/choices/0/message/content"))
}

/// What is passed on of a stream; `None` if it is withheld at some place.
fn streamed(session: Session, pieces: &[&str]) -> Option<String> {
    let mut guard = session.into_stream(Operation::Chat);
    let mut passed = Vec::new();
    for piece in pieces {
        let event = json!({"choices": [{"delta": {"content": piece}}]});
        let event = Bytes::from(format!("data: {event}\n\n"));
        passed.push(at_once(guard.push(event))?);
    }
    passed.push(at_once(guard.finish())?);
    let passed = passed.concat();
    let lines = passed.split(|byte| *byte == b'\n');
    let events = lines.filter_map(|line| line.strip_prefix(b"data: "));
    Some(
        events
            .map(|event| content(event, "/choices/0/delta/content"))
            .collect(),
    )
}
