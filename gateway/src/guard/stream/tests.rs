//! Streams through guards, event by event.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use protocol::snapshot::{self, Action, GuardRule, Mode, Phases, PiiKind};
use serde_json::{Value, json};

use crate::{
    call::{Call, Operation},
    fault::Fault,
    guard::{Guards, Session, stream::StreamGuard},
    metrics::Metrics,
};

fn guard(action: Action, rule: GuardRule) -> snapshot::Guard {
    snapshot::Guard {
        name: "g".to_owned(),
        on: Phases::Both,
        action,
        mode: Mode::Enforce,
        rule,
    }
}

fn mask_mail() -> snapshot::Guard {
    let kinds = vec![PiiKind::Email];
    guard(Action::Mask, GuardRule::Pii { kinds })
}

fn regex(action: Action, pattern: &str) -> snapshot::Guard {
    let patterns = vec![pattern.to_owned()];
    guard(action, GuardRule::Regex { patterns })
}

fn session(operation: Operation, guards: &[snapshot::Guard]) -> Session {
    let guards = Arc::new(Guards::compile(guards).unwrap().unwrap());
    let call = Call::new("req_1".to_owned(), operation);
    let metrics = Arc::new(Metrics::default());
    Session::new(&guards, "ns/r", &call, &metrics, None)
}

/// What comes of guards that ask nobody, at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nobody is asked")
}

/// What comes out after each event, and at the end.
fn pass(mut guard: StreamGuard, events: &[String]) -> Result<Vec<String>, Fault> {
    let mut passed = Vec::new();
    for event in events {
        passed.push(now(guard.push(Bytes::from(event.clone())))?);
    }
    passed.push(now(guard.finish())?);
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    Ok(passed.into_iter().map(text).collect())
}

fn chunk(content: &str) -> String {
    let delta = json!({"content": content});
    format!(
        "data: {}\n\n",
        json!({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
    )
}

fn end() -> Vec<String> {
    let last = json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    vec![format!("data: {last}\n\n"), "data: [DONE]\n\n".to_owned()]
}

fn chat(contents: &[&str]) -> Vec<String> {
    contents
        .iter()
        .map(|content| chunk(content))
        .chain(end())
        .collect()
}

#[track_caller]
fn check(guards: &[snapshot::Guard], contents: &[&str], expected: &[&str]) {
    let stream = session(Operation::Chat, guards).into_stream(Operation::Chat);
    let passed = pass(stream, &chat(contents)).unwrap().concat();
    assert_eq!(passed, chat(expected).concat());
}

#[test]
fn texts_are_masked_across_events_and_no_event_is_lost() {
    let guards = [mask_mail()];
    check(
        &guards,
        &["Write to bob", "@exam", "ple.org", " now"],
        &["Write to ", "", "[EMAIL] ", "now"],
    );
    check(&guards, &["Just", " words", "."], &["Just", " ", "words."]);
    check(&guards, &["a@b.org"], &["[EMAIL]"]);
    check(
        &guards,
        &["\"ü\n\u{1F600}\"", " x@"],
        &["\"ü\n\u{1F600}\"", " x@"],
    );
    check(
        &[mask_mail(), regex(Action::Mask, "now")],
        &["a@b.or", "g no", "w"],
        &["[EMAIL] ", "", "[G]"],
    );
}

#[test]
fn only_events_whose_end_may_be_a_finding_wait() {
    let stream = session(Operation::Chat, &[mask_mail()]).into_stream(Operation::Chat);
    let events = chat(&["one, ", "bob", " two. ", "three! "]);
    let passed = pass(stream, &events).unwrap();
    assert_eq!(passed[0], events[0]);
    assert_eq!(passed[1], "");
    assert_eq!(passed[2], [&*events[1], &*events[2]].concat());
    assert_eq!(passed[3], events[3]);
}

#[test]
fn what_is_blocked_is_withheld_to_the_end() {
    let mut stream = session(Operation::Chat, &[regex(Action::Block, "top secret")])
        .into_stream(Operation::Chat);
    let first = now(stream.push(Bytes::from(chunk("it is ")))).unwrap();
    assert_eq!(first, chunk("it is "));
    assert_eq!(now(stream.push(Bytes::from(chunk("top")))).unwrap(), "");
    let fault = now(stream.push(Bytes::from(chunk(" secret")))).unwrap_err();
    assert_eq!(fault.kind.code(), "content_policy_violation");
}

#[test]
fn choices_and_calls_are_texts_of_their_own() {
    let event = |choice: u64, delta: Value| {
        format!(
            "data: {}\n\n",
            json!({"choices": [{"index": choice, "delta": delta}]})
        )
    };
    let call = |part: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": part}}]});
    let events = [
        event(0, json!({"content": "bob"})),
        event(1, json!({"content": "@b.org "})),
        event(0, call("{\"to\":\"bob")),
        event(0, json!({"content": "@c.org "})),
        event(0, call("@d.org\"}")),
    ];
    let stream = session(Operation::Chat, &[mask_mail()]).into_stream(Operation::Chat);
    let expected = [
        event(0, json!({"content": "[EMAIL] "})),
        event(1, json!({"content": "@b.org "})),
        event(0, call("{\"to\":\"[EMAIL]\"}")),
        event(0, json!({"content": ""})),
        event(0, call("")),
    ];
    assert_eq!(pass(stream, &events).unwrap().concat(), expected.concat());
}

#[test]
fn what_was_masked_in_the_request_comes_back_in_the_answer() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "I am a\"b, a@b.org and c@d.org, a@b.org"}]});
    let odd = regex(Action::Mask, "a\"b");
    let mut session = session(Operation::Chat, &[mask_mail(), odd]);
    let sent = now(session.request(&Bytes::from(body.to_string()))).unwrap();
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    let content = "I am [G], [EMAIL_1] and [EMAIL_2], [EMAIL_1]";
    assert_eq!(sent["messages"][0]["content"], content);
    let events = chat(&["Hi [EM", "AIL_2", "], [EMAIL_3] x@y.org"]);
    let passed = pass(session.into_stream(Operation::Chat), &events)
        .unwrap()
        .concat();
    assert_eq!(
        passed,
        chat(&["Hi ", "c@d.org, [EMAIL_3] ", "[EMAIL]"]).concat()
    );
}

#[test]
fn messages_and_responses_keep_their_events() {
    let event = |data: Value| format!("event: x\ndata: {data}\n\n");
    let delta = |text: &str| {
        event(
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        )
    };
    let ping = || event(json!({"type": "ping"}));
    let stop = || event(json!({"type": "content_block_stop", "index": 0}));
    let stream = session(Operation::Message, &[mask_mail()]).into_stream(Operation::Message);
    let passed = pass(stream, &[delta("a@b"), ping(), delta(".org"), stop()])
        .unwrap()
        .concat();
    assert_eq!(
        passed,
        [delta(""), ping(), delta("[EMAIL]"), stop()].concat()
    );

    let delta = |text: &str| {
        event(
            json!({"type": "response.output_text.delta", "output_index": 0, "delta": text, "logprobs": [1]}),
        )
    };
    let done = |text: &str| {
        event(json!({"type": "response.output_text.done", "output_index": 0, "text": text}))
    };
    let bare = |text: &str| delta(text).replace("[1]", "[]");
    let stream = session(Operation::Response, &[mask_mail()]).into_stream(Operation::Response);
    let passed = pass(stream, &[delta("a@b"), delta(".org"), done("a@b.org")])
        .unwrap()
        .concat();
    assert_eq!(
        passed,
        [bare(""), bare("[EMAIL]"), done("[EMAIL]")].concat()
    );
}

#[test]
fn what_repeats_an_answer_is_hidden_where_it_is_masked() {
    let event = |content: &str, rest: Value| {
        let mut choice = json!({"index": 0, "delta": {"content": content}});
        choice
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let rest = json!({"logprobs": {"content": [{"token": "a@b.org"}]}, "token_ids": [7], "message": {"content": "a@b.org"}});
    let hidden = json!({"logprobs": null, "token_ids": [], "message": null});
    let stream = session(Operation::Chat, &[mask_mail()]).into_stream(Operation::Chat);
    let passed = pass(stream, &[event("a@b.org ", rest)]).unwrap().concat();
    assert_eq!(passed, event("[EMAIL] ", hidden));

    let done = |content: Value| {
        let item = json!({"type": "message", "content": [content]});
        format!(
            "data: {}\n\n",
            json!({"type": "response.completed", "response": {"output": [item]}})
        )
    };
    let said = json!({"type": "output_text", "text": "a@b.org", "logprobs": [{"token": "a@b"}, {"token": ".org"}]});
    let stream = session(Operation::Response, &[mask_mail()]).into_stream(Operation::Response);
    let passed = pass(stream, &[done(said)]).unwrap().concat();
    let masked = json!({"type": "output_text", "text": "[EMAIL]", "logprobs": []});
    assert_eq!(passed, done(masked));
}

#[test]
fn lines_that_end_with_a_carriage_return_are_seen() {
    let stream = session(Operation::Chat, &[mask_mail()]).into_stream(Operation::Chat);
    let event = |content: &str| {
        format!(": note\rdata: {{\"choices\":[{{\"delta\":{{\"content\":\"{content}\"}}}}]}}\r\r")
    };
    let passed = pass(stream, &[event("a@b.org ") + ":\n\n"])
        .unwrap()
        .concat();
    assert_eq!(passed, event("[EMAIL] ") + ":\n\n");
}

#[test]
fn calls_of_tools_that_are_denied_are_withheld() {
    let rule = GuardRule::Tools {
        allow: Vec::new(),
        deny: vec!["shell*".to_owned()],
    };
    let stream = || {
        session(Operation::Chat, &[guard(Action::Block, rule.clone())]).into_stream(Operation::Chat)
    };
    let call = |name: &str| {
        let call = json!({"index": 0, "id": "t", "function": {"name": name, "arguments": ""}});
        vec![format!(
            "data: {}\n\n",
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
        )]
    };
    assert!(pass(stream(), &call("read")).is_ok());
    assert!(pass(stream(), &call("shell_exec")).is_err());
}

#[test]
fn who_only_tells_changes_and_delays_nothing() {
    let shadow = snapshot::Guard {
        mode: Mode::Shadow,
        ..regex(Action::Block, "secret")
    };
    let events = chat(&["a sec", "ret"]);
    let stream = session(Operation::Chat, &[shadow]).into_stream(Operation::Chat);
    let mut expected = events.clone();
    expected.push(String::new());
    assert_eq!(pass(stream, &events).unwrap(), expected);
}

#[test]
fn data_on_several_lines_is_read_as_one() {
    let stream = session(Operation::Chat, &[mask_mail()]).into_stream(Operation::Chat);
    let event =
        "id: 7\ndata: {\"choices\":[{\"delta\":\ndata: {\"content\":\"a@b.org\"}}]}\n\n".to_owned();
    let passed = pass(stream, &[": note\n\n".to_owned(), event])
        .unwrap()
        .concat();
    let expected =
        ": note\n\nid: 7\ndata: {\"choices\":[{\"delta\": {\"content\":\"[EMAIL]\"}}]}\n\n";
    assert_eq!(passed, expected);
}

#[test]
fn what_cannot_be_read_is_withheld() {
    for event in [
        "data: {\"choices\":[\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\ud800\"}}]}\n\n",
    ] {
        let stream = session(Operation::Chat, &[mask_mail()]).into_stream(Operation::Chat);
        assert!(pass(stream, &[event.to_owned()]).is_err());
    }
}
