//! Prompts in front of requests of each API.

use protocol::snapshot::{PromptMessage, PromptTemplate};

use super::{Prompts, snapshot};
use crate::{call::Operation, decode::Decoded};

const LIST: &str = r#"[{"role":"system","content":"be {{how}}"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#;

fn prompts(default: Option<&str>) -> Prompts {
    let template = |name: &str, text: &str| PromptTemplate {
        name: name.to_owned(),
        messages: PromptMessage::read(text).unwrap(),
    };
    let prompts = snapshot::Prompts {
        default: default.map(str::to_owned),
        templates: vec![template("house", "be \"kind\""), template("list", LIST)],
    };
    std::sync::Arc::into_inner(Prompts::compile(Some(&prompts)).unwrap()).unwrap()
}

#[track_caller]
fn check(operation: Operation, default: Option<&str>, body: &'static str, expected: &str) {
    let mut decoded = Decoded::of(operation, body);
    let put = prompts(default).put_in(&mut decoded);
    match put {
        Ok(()) => assert_eq!(decoded.body, expected.as_bytes(), "{:?}", decoded.body),
        Err(fault) => assert_eq!(fault.message, expected),
    }
}

#[test]
fn a_default_goes_before_every_chat() {
    let house = Some("house");
    let check = |body, expected| check(Operation::Chat, house, body, expected);
    check(
        r#"{"model":"m", "messages": [ {"role":"user","content":"1.50"}],"x":1.50}"#,
        r#"{"model":"m", "messages": [{"role":"system","content":"be \"kind\""}, {"role":"user","content":"1.50"}],"x":1.50}"#,
    );
    check(
        r#"{"model":"m","messages":[]}"#,
        r#"{"model":"m","messages":[{"role":"system","content":"be \"kind\""}]}"#,
    );
    check(
        r#"{"model":"m"}"#,
        "The parameter `messages` must be what this API has there, for the model's prompt to go before it.",
    );
}

#[test]
fn a_request_without_a_prompt_stays_and_other_operations_do() {
    let body = r#"{"model":"m","messages":[]}"#;
    check(Operation::Chat, None, body, body);
    let body = r#"{"model":"m","prompt":"x","prompt_id":"house"}"#;
    check(Operation::Completion, Some("house"), body, body);
}

#[test]
fn a_named_prompt_takes_the_place_of_the_default_and_its_fields_go() {
    let messages = r#"{"role":"system","content":"be 7"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}"#;
    let check = |body, expected: &str| check(Operation::Chat, Some("house"), body, expected);
    check(
        r#"{"prompt_id":"list" , "prompt_variables":{"how":7},"model":"m","messages":[1]}"#,
        &format!(r#"{{"model":"m","messages":[{messages},1]}}"#),
    );
    check(
        r#"{"model":"m","prompt_id":"list","messages":[1],"prompt_variables":{"how":"7"}}"#,
        &format!(r#"{{"model":"m","messages":[{messages},1]}}"#),
    );
    check(
        r#"{"model":"m","prompt_id":"list","messages":[]}"#,
        "The prompt's variable `how` is missing.",
    );
    check(
        r#"{"model":"m","prompt_id":"other","messages":[]}"#,
        "This model has no prompt `other`.",
    );
    check(
        r#"{"model":"m","prompt_id":"list","prompt_id":"house","messages":[]}"#,
        "The field `prompt_id` appears twice in the request's body.",
    );
}

#[test]
fn messages_and_responses_have_a_place_for_the_systems_texts() {
    let check = |operation, body, expected| check(operation, Some("house"), body, expected);
    check(
        Operation::Message,
        r#"{"model":"m","messages":[1]}"#,
        r#"{"system":"be \"kind\"","model":"m","messages":[1]}"#,
    );
    check(
        Operation::Message,
        r#"{"model":"m","system":"s","messages":[1]}"#,
        r#"{"model":"m","system":"be \"kind\"\n\ns","messages":[1]}"#,
    );
    check(
        Operation::Message,
        r#"{"model":"m","system":[{"type":"text","text":"s"}],"messages":[1]}"#,
        r#"{"model":"m","system":[{"type":"text","text":"be \"kind\""},{"type":"text","text":"s"}],"messages":[1]}"#,
    );
    check(
        Operation::Response,
        r#"{"model":"m","input":"i"}"#,
        r#"{"instructions":"be \"kind\"","model":"m","input":"i"}"#,
    );
    check(
        Operation::Response,
        r#"{"prompt_id":"list","prompt_variables":{"how":"x"},"model":"m","input":"i"}"#,
        r#"{"instructions":"be x","model":"m","input":[{"role":"user","content":"q"},{"role":"assistant","content":"a"},{"role":"user","content":"i"}]}"#,
    );
}

#[test]
fn a_default_that_is_not_there_stops_requests() {
    check(
        Operation::Chat,
        Some("gone"),
        r#"{"model":"m","messages":[]}"#,
        "This model's default prompt is not there. Try again later.",
    );
}
