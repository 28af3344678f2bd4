use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::prefix::{
    CHAT, COMPLETION, Chain, Seed,
    blocks::{BLOCK_BYTES, BLOCKS_MAX},
    chain,
};

fn seed() -> Seed {
    Seed::new("m", None, "tenant")
}

fn of(body: &Value) -> Chain {
    chain(body.to_string().as_bytes(), CHAT, seed())
}

/// Hashes that two chains share.
fn shared(left: &Chain, right: &Chain) -> usize {
    let pairs = left.hashes.iter().zip(&right.hashes);
    let shared = pairs
        .clone()
        .take_while(|(left, right)| left == right)
        .count();
    assert!(
        pairs.skip(shared).all(|(left, right)| left != right),
        "chains that parted met again"
    );
    shared
}

fn long(name: &str) -> String {
    format!("{name} ").repeat(200)
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

/// Whether two bodies have the same chain, which is not empty.
#[track_caller]
fn check_equal(left: &str, right: &str, expected: bool) {
    let [left, right] = [left, right].map(|body| chain(body.as_bytes(), CHAT, seed()));
    assert!(!left.hashes.is_empty() && !right.hashes.is_empty());
    assert_eq!(left == right, expected);
}

#[test]
fn only_the_prompt_counts() {
    let text = long("text");
    let plain = json!({"messages": [message("user", &text)]}).to_string();
    let settings = json!({"model": "x", "messages": [message("user", &text)], "temperature": 1, "user": "u", "stream": true});
    check_equal(&plain, &settings.to_string(), true);
    let same = |body: String| check_equal(&plain, &body, true);
    same(format!(
        " {{\n\"messages\" :\t[ {{ \"role\":\"user\" , \"content\" :\"{text}\"}} ]\r\n}} "
    ));
    same(format!(
        r#"{{"messages":[{{"content":"{text}","role":"user"}}]}}"#
    ));
    same(format!(
        r#"{{"messages":[{{"content":"{text}","cache_control":{{"type":"x"}},"role":"user"}}]}}"#
    ));
    same(format!(
        r#"{{"messages":[1],"messages":[{{"role":"user","content":"{text}"}}]}}"#
    ));
    let other = |body: String| check_equal(&plain, &body, false);
    other(format!(
        r#"{{"messages":[{{"role":"system","content":"{text}"}}]}}"#
    ));
    other(format!(
        r#"{{"messages":[{{"role":"user","name":"n","content":"{text}"}}]}}"#
    ));
    other(format!(
        r#"{{"messages":[{{"role":"user","content":" {text}"}}]}}"#
    ));
    other(format!(
        r#"{{"tools":[{{"a":1}}],"messages":[{{"role":"user","content":"{text}"}}]}}"#
    ));
    other(format!(
        r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}]}}"#
    ));
}

#[test]
fn the_order_of_members_counts_only_below_parts_and_tools() {
    let text = long("text");
    let part = |part: &str| format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let plain = part(&format!(r#"{{"type":"text","text":"{text}"}}"#));
    let marked = part(&format!(
        r#"{{"text": "{text}", "cache_control": {{}}, "type": "text"}}"#
    ));
    check_equal(&plain, &marked, true);
    let tools = |tool: &str| format!(r#"{{"tools":[{tool}],"messages":[{{"content":"{text}"}}]}}"#);
    let plain = tools(r#"{"type":"function","function":{"a":1,"b":[ ]}}"#);
    check_equal(
        &plain,
        &tools(r#"{"function":{"a":1 ,"b":[]},"type":"function"}"#),
        true,
    );
    check_equal(
        &plain,
        &tools(r#"{"type":"function","function":{"b":[],"a":1}}"#),
        false,
    );
    let many = |names: &[usize]| {
        let members = names.iter().map(|name| format!(r#""{name:02}":"{text}""#));
        let members: Vec<String> = members.collect();
        format!(r#"{{"messages":[{{{}}}]}}"#, members.join(","))
    };
    let (upwards, downwards): (Vec<_>, Vec<_>) = ((0..16).collect(), (0..16).rev().collect());
    check_equal(&many(&upwards), &many(&downwards), true);
    let (upwards, downwards): (Vec<_>, Vec<_>) = ((0..17).collect(), (0..17).rev().collect());
    check_equal(&many(&upwards), &many(&downwards), false);
}

#[test]
fn model_adapter_and_tenant_part_chains_from_the_start() {
    let body = json!({"messages": [message("user", &long("text"))]}).to_string();
    let seeds = [
        Seed::new("m", None, ""),
        Seed::new("n", None, ""),
        Seed::new("m", Some(""), ""),
        Seed::new("m", Some("a"), ""),
        Seed::new("m", None, "a"),
    ];
    let chains = seeds.map(|seed| chain(body.as_bytes(), CHAT, seed));
    for (index, left) in chains.iter().enumerate() {
        for right in &chains[index + 1..] {
            assert_eq!(shared(left, right), 0);
        }
    }
}

#[test]
fn a_turn_keeps_every_block_of_the_turn_before() {
    let mut messages = vec![message("system", "be brief")];
    let mut before = of(&json!({"tools": [{"name": long("tool")}], "messages": messages}));
    for turn in 0..40 {
        messages.push(message("user", &"q".repeat(turn * 7)));
        messages.push(message("assistant", &"a".repeat(turn * 13)));
        let now = of(&json!({"messages": messages, "tools": [{"name": long("tool")}]}));
        assert_eq!(shared(&before, &now), before.hashes.len());
        before = now;
    }
}

#[test]
fn completions_share_the_beginning_of_their_text() {
    let of = |prompt: Value| {
        chain(
            json!({"prompt": prompt}).to_string().as_bytes(),
            COMPLETION,
            seed(),
        )
    };
    let text = "x".repeat(10 * BLOCK_BYTES);
    let short = of(json!(text));
    assert_eq!(short.hashes.len(), 10);
    assert_eq!(shared(&short, &of(json!(format!("{text}yz")))), 10);
    assert_eq!(of(json!([1, 2, 3])).hashes.len(), 0);
    assert_eq!(
        of(json!(vec![7; 10_000])).hashes.len(),
        20_000 / BLOCK_BYTES
    );
}

fn content() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-c\\\\\"\\n ]{0,40}",
        any::<String>(),
        (select(vec!["x", "long \"quoted\" words\n"]), 0..60_usize)
            .prop_map(|(word, times)| word.repeat(times)),
    ];
    prop_oneof![
        text.clone().prop_map(Value::from),
        Just(Value::Null),
        vec(text, 0..3).prop_map(|texts| {
            texts
                .into_iter()
                .map(|text| json!({"text": text, "type": "text"}))
                .collect()
        }),
    ]
}

fn messages() -> impl Strategy<Value = Vec<Value>> {
    let calls = option::of(json_calls());
    let message = (
        select(vec!["system", "user", "assistant"]),
        content(),
        calls,
    )
        .prop_map(|(role, content, calls)| {
            let mut message = Map::from_iter([
                ("role".to_owned(), json!(role)),
                ("content".to_owned(), content),
            ]);
            if let Some(calls) = calls {
                message.insert("tool_calls".to_owned(), calls);
            }
            Value::Object(message)
        });
    vec(message, 0..8)
}

fn json_calls() -> impl Strategy<Value = Value> {
    vec("[a-z{}\\[\\]\"]{0,20}", 0..3).prop_map(|calls| {
        calls
            .into_iter()
            .map(|call| json!({"function": {"name": "f", "arguments": call}}))
            .collect()
    })
}

/// The canonical text, by way of a tree; `sort` is the identity here because the strategies write members in order.
fn canonical(messages: &[Value]) -> String {
    let object = |value: &Value| {
        let members = value.as_object().unwrap().iter();
        let written = members.map(|(name, value)| match (name.as_str(), value) {
            ("content", Value::Array(parts)) => {
                let parts = parts
                    .iter()
                    .map(|part| format!("{{\"text\":{},\"type\":\"text\",}},", part["text"]));
                format!("\"content\":{},", parts.collect::<String>())
            }
            _ => format!("{}:{value},", json!(name)),
        });
        format!("{{{}}},", written.collect::<String>())
    };
    messages
        .iter()
        .map(|message| {
            let mut message = message.clone();
            let members = message.as_object_mut().unwrap();
            members.sort_keys();
            let role = members.shift_remove("role").unwrap();
            members.shift_insert(0, "role".to_owned(), role);
            object(&message)
        })
        .collect()
}

fn common_prefix(left: &str, right: &str) -> usize {
    let pairs = left.bytes().zip(right.bytes());
    pairs.take_while(|(left, right)| left == right).count()
}

proptest! {
    /// The second conversation begins like the first and goes its own way.
    #[test]
    fn chains_share_what_prompts_share(first in messages(), own in messages(), kept in 0..8_usize, is_pretty in any::<bool>()) {
        let kept = kept.min(first.len());
        let second: Vec<Value> = first[..kept].iter().cloned().chain(own).collect();
        let left = of(&json!({"messages": first}));
        let body = json!({"user": "u", "messages": second});
        let written = if is_pretty { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
        let right = chain(written.as_bytes(), CHAT, seed());
        let (left_text, right_text) = (canonical(&first), canonical(&second));
        assert_eq!(left.bytes(), left_text.len());
        assert_eq!(left.hashes.len(), left_text.len() / BLOCK_BYTES);
        assert_eq!(shared(&left, &right), common_prefix(&left_text, &right_text) / BLOCK_BYTES);
    }

    #[test]
    fn any_bytes_have_a_chain(body in vec(any::<u8>(), 0..400), cut in 0..400_usize) {
        chain(&body, CHAT, seed());
        let valid = json!({"tools": [{"a": [{}]}], "messages": [{"role": "\\\"", "content": [{"content": [[{}]]}]}]}).to_string();
        let mut broken = valid.into_bytes();
        broken.truncate(cut);
        chain(&broken, CHAT, seed());
        broken.extend(&body);
        chain(&broken, CHAT, seed());
    }
}

/// Ten megabytes of what is worst for a scanner, in the time that ten megabytes take.
#[track_caller]
fn check_linear(begin: &str, repeated: &str) {
    let body = begin.to_owned() + &repeated.repeat(10_000_000 / repeated.len());
    let started = Instant::now();
    let chain = chain(body.as_bytes(), CHAT, seed());
    assert!(chain.hashes.len() <= BLOCKS_MAX);
    // Unoptimised and on a busy machine; a scan in quadratic time takes hours.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{begin}{repeated}"
    );
}

#[test]
fn the_worst_bodies_take_linear_time() {
    let in_content = r#"{"messages":[{"content":"#;
    for begin in ["", r#"{"messages":"#, in_content] {
        check_linear(begin, "[");
        check_linear(begin, r#"[{"content":"#);
    }
    check_linear(in_content, "\\");
    check_linear(r#"{"messages":[{"content":""#, "\\");
    check_linear(r#"{"messages":[{"content":""#, "\\\"");
    check_linear(r#"{"messages":["#, "\"");
    check_linear(r#"{"messages":[{"#, "\"a\":1,");
    check_linear(r#"{"messages":["#, "{\"a\":1},");
    check_linear(r#"{"messages":["#, " ");
}
