//! Claims about what answers mean, however their text is cut.

mod requests;

use serde_json::{Value, json};

use super::{Delta, Formats, Message, Output, OutputOptions, Tool, describe_tools};

/// The tools of all tests.
fn tools() -> Vec<Tool> {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    let tool = |name: &str, parameters: Option<Value>| Tool {
        name: name.to_owned(),
        description: None,
        parameters,
        strict: false,
    };
    vec![tool("weather", Some(weather)), tool("now", None)]
}

fn options(is_parallel: bool, reasoning_is_open: bool) -> OutputOptions {
    OutputOptions {
        tools: tools(),
        parallel_tool_calls: is_parallel,
        reasoning_is_open,
    }
}

/// What is left of a message if its identifiers are left out.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Read {
    reasoning: String,
    content: String,
    calls: Vec<(String, String)>,
}

fn read<'a>(
    formats: &Formats,
    options: &OutputOptions,
    pieces: impl Iterator<Item = &'a str>,
) -> Read {
    let mut output = Output::new(formats, options.clone());
    let mut message = Message::default();
    let mut deltas = Vec::new();
    for piece in pieces {
        deltas.extend(output.push(piece));
    }
    deltas.extend(output.finish());
    let announced = |index: usize| {
        let begins = |delta: &&Delta| matches!(delta, Delta::ToolCall { index: other, .. } if *other == index);
        deltas.iter().filter(begins).count()
    };
    for delta in &deltas {
        let is_empty = match delta {
            Delta::Reasoning(text) | Delta::Content(text) | Delta::ToolArguments { text, .. } => {
                text.is_empty()
            }
            Delta::ToolCall { .. } => false,
        };
        assert!(!is_empty, "an empty delta among {deltas:?}");
    }
    message.extend(deltas.clone());
    for index in 0..message.calls.len() {
        assert_eq!(announced(index), 1, "{deltas:?}");
    }
    Read {
        reasoning: message.reasoning,
        content: message.content,
        calls: message
            .calls
            .into_iter()
            .map(|call| (call.name, call.arguments))
            .collect(),
    }
}

/// All ways to cut a text in two, the text as a whole, and its single characters.
#[track_caller]
fn check_cut(formats: &Formats, options: &OutputOptions, text: &str, expected: &Read) {
    let whole = read(formats, options, std::iter::once(text));
    assert_eq!(&whole, expected, "{text:?}");
    let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
    for &place in &places {
        let (left, right) = text.split_at(place);
        let cut = read(formats, options, [left, right].into_iter());
        assert_eq!(&cut, expected, "{left:?} {right:?}");
    }
    let ends = places.iter().copied().skip(1).chain([text.len()]);
    let characters = places
        .iter()
        .zip(ends)
        .map(|(&start, end)| &text[start..end]);
    assert_eq!(
        &read(formats, options, characters),
        expected,
        "{text:?} by characters"
    );
}

fn formats(tools: &str) -> Formats {
    Formats::detect(None, Some(tools), Some("none")).unwrap()
}

fn expected(content: &str, calls: &[(&str, &str)]) -> Read {
    Read {
        reasoning: String::new(),
        content: content.to_owned(),
        calls: calls
            .iter()
            .map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned()))
            .collect(),
    }
}

#[track_caller]
fn check(format: &str, text: &str, content: &str, calls: &[(&str, &str)]) {
    check_cut(
        &formats(format),
        &options(true, false),
        text,
        &expected(content, calls),
    );
}

#[test]
fn hermes_calls_stand_in_tags() {
    let call =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";
    let paris = ("weather", "{\"city\": \"Paris\"}");
    check("hermes", call, "", &[paris]);
    check(
        "hermes",
        &format!("I look.\n\n{call}\n"),
        "I look.",
        &[paris],
    );
    check("hermes", &format!("{call}\n{call}"), "", &[paris, paris]);
    check("hermes", &format!("{call} Done."), " Done.", &[paris]);
    check(
        "hermes",
        "<tool_call>{\"arguments\": {\"a\": [1, {}]}, \"name\": \"f\"}</tool_call>",
        "",
        &[("f", "{\"a\": [1, {}]}")],
    );
    check(
        "hermes",
        "<tool_call>{\"name\": \"now\"}</tool_call>",
        "",
        &[("now", "{}")],
    );
    check(
        "hermes",
        "<tool_call>{\"name\": \"now\", \"arguments\": null}</tool_call>",
        "",
        &[("now", "{}")],
    );
    let inner = "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>";
    check("hermes", inner, "", &[("f", "{\"a\": 1}")]);
    let other = "<tool_call>{\"id\": 7, \"name\": \"f\", \"x\": [\"}\"], \"arguments\": {\"q\": \"}\\\"{\"}}";
    check("hermes", other, "", &[("f", "{\"q\": \"}\\\"{\"}")]);
}

#[test]
fn what_only_looks_like_a_call_is_text() {
    check(
        "hermes",
        "The tag <tool_call> begins one.",
        "The tag <tool_call> begins one.",
        &[],
    );
    check("hermes", "a <tool_ca", "a <tool_ca", &[]);
    check(
        "hermes",
        "<tool_call>{\"x\": 1}</tool_call>",
        "<tool_call>{\"x\": 1}</tool_call>",
        &[],
    );
    check(
        "hermes",
        "<tool_call>{\"name\": 1}",
        "<tool_call>{\"name\": 1}",
        &[],
    );
    check(
        "hermes",
        "<tool_call> no <tool_call>{\"name\": \"now\"}</tool_call>",
        "<tool_call> no",
        &[("now", "{}")],
    );
    check("llama3-json", "{\"answer\": 42}", "{\"answer\": 42}", &[]);
    check(
        "llama3-json",
        "{\"name\": \"Bob\", \"parameters\": {}}",
        "{\"name\": \"Bob\", \"parameters\": {}}",
        &[],
    );
    check("pythonic", "[1, 2]", "[1, 2]", &[]);
    check(
        "pythonic",
        "[a link](https://example.org)",
        "[a link](https://example.org)",
        &[],
    );
    check("pythonic", "[other(a=1)]", "[other(a=1)]", &[]);
    check(
        "mistral",
        "See [TOOL_CALLS] or [TOOL",
        "See [TOOL_CALLS] or [TOOL",
        &[],
    );
}

#[test]
fn a_call_that_is_cut_short_stays_a_call() {
    check("hermes", "<tool_call>{\"name\": \"f\"", "", &[("f", "")]);
    let text = "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Par";
    check("hermes", text, "", &[("weather", "{\"city\": \"Par")]);
    check(
        "pythonic",
        "[weather(city=\"Paris\", days=",
        "",
        &[("weather", "{\"city\": \"Paris\"")],
    );
}

#[test]
fn llama_calls_are_bare_objects() {
    let call = "{\"name\": \"weather\", \"parameters\": {\"city\": \"Oslo\"}}";
    let oslo = ("weather", "{\"city\": \"Oslo\"}");
    check("llama3-json", call, "", &[oslo]);
    check("llama3-json", &format!("<|python_tag|>{call}"), "", &[oslo]);
    check(
        "llama3-json",
        &format!("\n{call}; {call}"),
        "",
        &[oslo, oslo],
    );
    check("llama3-json", &format!("{call}\n{call}"), "", &[oslo, oslo]);
    check(
        "llama3-json",
        &format!("[{call}, {call}]"),
        "",
        &[oslo, oslo],
    );
    check("llama3-json", "It rains.", "It rains.", &[]);
    check("llama3-json", "  ", "  ", &[]);
}

#[test]
fn mistral_calls_stand_behind_a_mark() {
    let call = "{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}";
    let rome = ("weather", "{\"city\": \"Rome\"}");
    for format in ["mistral", "mistral-args"] {
        check(format, &format!("[TOOL_CALLS][{call}]"), "", &[rome]);
        check(
            format,
            &format!("[TOOL_CALLS] [{call}, {call}]"),
            "",
            &[rome, rome],
        );
        check(
            format,
            "[TOOL_CALLS]weather[ARGS]{\"city\": \"Rome\"}",
            "",
            &[rome],
        );
        let two = "Well.[TOOL_CALLS]weather[ARGS]{\"city\": \"Rome\"}[TOOL_CALLS]now{}";
        check(format, two, "Well.", &[rome, ("now", "{}")]);
        let with_id = "[TOOL_CALLS]weather[CALL_ID]abc123[ARGS]{\"city\": \"Rome\"}";
        check(format, with_id, "", &[rome]);
    }
    let mut output = Output::new(&formats("mistral"), options(true, false));
    let deltas = output.push("[TOOL_CALLS]now[ARGS]{}");
    assert!(
        matches!(&deltas[0], Delta::ToolCall { id, .. } if id.len() == 9),
        "{deltas:?}"
    );
}

#[test]
fn phi_calls_are_a_list_in_tags() {
    let text =
        "<|tool_call|>[{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"now\"}]<|/tool_call|>";
    check("phi", text, "", &[("now", "{}"), ("now", "{}")]);
}

#[test]
fn pythonic_calls_become_json() {
    for (arguments, json) in [
        ("", "{}"),
        ("city=\"Paris\"", "{\"city\": \"Paris\"}"),
        ("city='Paris', days=2", "{\"city\": \"Paris\", \"days\": 2}"),
        ("\"Paris\", 2", "{\"city\": \"Paris\", \"days\": 2}"),
        (
            "a=True, b=None, c=false",
            "{\"a\": true, \"b\": null, \"c\": false}",
        ),
        (
            "a=[1, (2, 3), {4}], b={'x': {\"y\": 1}},",
            "{\"a\": [1, [2, 3], [4]], \"b\": {\"x\": {\"y\": 1}}}",
        ),
        (
            "a='it\\'s', b=\"say \\\"hi\\\"\"",
            "{\"a\": \"it's\", \"b\": \"say \\\"hi\\\"\"}",
        ),
        (
            "a='), now(', b='''x'y\n'''",
            "{\"a\": \"), now(\", \"b\": \"x'y\\n\"}",
        ),
        ("a='', b=\"\"", "{\"a\": \"\", \"b\": \"\"}"),
        (
            "a=r'\\d', b='\\u00e9\\x41\\ud83d\\ude42'",
            "{\"a\": \"\\\\d\", \"b\": \"éA🙂\"}",
        ),
        ("a='one' 'two'", "{\"a\": \"onetwo\"}"),
        (
            "a=-1.5e3, b=.5, c=1_000, d=0x10, e=007",
            "{\"a\": -1.5e3, \"b\": 0.5, \"c\": 1000, \"d\": 16, \"e\": 7}",
        ),
        ("a={}, b=[], c=()", "{\"a\": {}, \"b\": [], \"c\": []}"),
        (
            "a={1: 'x', None: 2}",
            "{\"a\": {\"1\": \"x\", \"null\": 2}}",
        ),
        ("a=some_variable + 1", "{\"a\": \"some_variable + 1\"}"),
        ("a=b'x' == 2", "{\"a\": \"b'x' == 2\"}"),
        (
            "a=123456789012345678901234567890",
            "{\"a\": 123456789012345678901234567890}",
        ),
    ] {
        check(
            "pythonic",
            &format!("[weather({arguments})]"),
            "",
            &[("weather", json)],
        );
        assert!(serde_json::from_str::<Value>(json).is_ok(), "{json}");
    }
    check(
        "pythonic",
        "[now(), weather(city=\"A\")]",
        "",
        &[("now", "{}"), ("weather", "{\"city\": \"A\"}")],
    );
    check(
        "llama4-pythonic",
        "<|python_start|>[now()]<|python_end|>",
        "",
        &[("now", "{}")],
    );
}

#[test]
fn only_the_first_call_counts_if_calls_are_not_parallel() {
    let text = "<tool_call>{\"name\": \"now\"}</tool_call>\n<tool_call>{\"name\": \"weather\"}</tool_call> ok";
    let expected = expected("", &[("now", "{}")]);
    check_cut(&formats("hermes"), &options(false, false), text, &expected);
}

#[test]
fn reasoning_comes_first_and_is_no_content() {
    let check = |tag: &str, is_open: bool, text: &str, reasoning: &str, content: &str| {
        let formats = Formats::detect(None, None, Some(tag)).unwrap();
        let options = OutputOptions {
            reasoning_is_open: is_open,
            ..OutputOptions::default()
        };
        let expected = Read {
            reasoning: reasoning.to_owned(),
            ..expected(content, &[])
        };
        check_cut(&formats, &options, text, &expected);
    };
    check(
        "think",
        false,
        "<think>\nHm. So\n</think>\n\nYes.\n",
        "Hm. So",
        "Yes.\n",
    );
    check("think", false, "\n<think></think>Yes.", "", "Yes.");
    check(
        "think",
        true,
        "Hm </thin </think>Yes <think>no</think>",
        "Hm </thin",
        "Yes <think>no</think>",
    );
    check(
        "think",
        false,
        "Yes <think>no</think>",
        "",
        "Yes <think>no</think>",
    );
    check(
        "think",
        false,
        "<think>never ends </thi",
        "never ends </thi",
        "",
    );
    check("think", false, "<thi", "", "<thi");
    check("think", false, "<thing>", "", "<thing>");
    check("think", false, "  ", "", "  ");
    check("THINK", false, "[THINK]é[/THINK]ü", "é", "ü");
    check(
        "<reflection>",
        false,
        "<reflection>a</reflection>b",
        "a",
        "b",
    );
    check("none", false, "<think>a</think>b", "", "<think>a</think>b");
}

#[test]
fn calls_are_found_behind_reasoning_and_not_in_it() {
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let formats = Formats::detect(None, Some("hermes"), Some("think")).unwrap();
    let text = format!("<think>I could {call} this.</think>\n\nLet me see.\n{call}");
    let wanted = Read {
        reasoning: format!("I could {call} this."),
        ..expected("Let me see.", &[("now", "{}")])
    };
    check_cut(&formats, &options(true, false), &text, &wanted);
    check_cut(
        &formats,
        &options(true, true),
        text.strip_prefix("<think>").unwrap(),
        &wanted,
    );
}

#[test]
fn arguments_are_told_as_they_come() {
    let mut output = Output::new(&formats("hermes"), options(true, false));
    assert_eq!(output.push("<tool_call>\n{\"name\": \"wea"), []);
    let deltas = output.push("ther\", \"arguments\": {\"ci");
    assert!(
        matches!(&deltas[0], Delta::ToolCall { index: 0, id, name } if name == "weather" && id.starts_with("call_"))
    );
    let more = |text: &str| Delta::ToolArguments {
        index: 0,
        text: text.to_owned(),
    };
    assert_eq!(deltas[1..], [more("{\"ci")]);
    assert_eq!(output.push("ty\": \"P"), [more("ty\": \"P")]);
    assert_eq!(output.push("aris\"}}\n</tool_call>"), [more("aris\"}")]);
    assert_eq!(output.finish(), []);
}

#[test]
fn depth_and_repetition_do_no_harm() {
    let depth = 10_000;
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let arguments = format!("{{\"a\": {deep}}}");
    let text = format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>");
    let got = read(
        &formats("hermes"),
        &options(true, false),
        std::iter::once(text.as_str()),
    );
    assert_eq!(got.calls, [("f".to_owned(), arguments)]);
    let python = format!("[weather(city={deep})]");
    let got = read(
        &formats("pythonic"),
        &options(true, false),
        std::iter::once(python.as_str()),
    );
    assert_eq!(
        got.calls,
        [("weather".to_owned(), format!("{{\"city\": \"{deep}\"}}"))]
    );
    for mark in [
        "<tool_call>",
        "<tool_call>{",
        "<tool_call>{\"a\": [",
        "<tool_call>{\"name\": \"",
    ] {
        let text = format!("{}]", mark.repeat(depth));
        let got = read(
            &formats("hermes"),
            &options(true, false),
            std::iter::once(text.as_str()),
        );
        assert_eq!(
            (got.content.len(), got.calls.len()),
            (text.len(), 0),
            "{mark}"
        );
    }
}

#[test]
fn a_prompt_may_end_in_reasoning() {
    let formats = Formats::detect(None, None, Some("think")).unwrap();
    let reasoning = formats.reasoning.unwrap();
    assert!(reasoning.is_open_in("<|im_start|>assistant\n<think>\n"));
    assert!(!reasoning.is_open_in("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
}

#[test]
fn the_description_of_tools_shows_how_to_call_them() {
    for (format, example) in [
        (
            "hermes",
            "<tool_call>\n{\"name\": \"NAME\", \"arguments\": {\"parameter\": \"value\"}}\n</tool_call>",
        ),
        (
            "llama3-json",
            "{\"name\": \"NAME\", \"parameters\": {\"parameter\": \"value\"}}",
        ),
        (
            "mistral-args",
            "[TOOL_CALLS]NAME[ARGS]{\"parameter\": \"value\"}",
        ),
        ("pythonic", "[NAME(parameter=\"value\")]"),
    ] {
        let text = describe_tools(&tools(), formats(format).tools);
        assert!(
            text.contains(example) && text.contains("{\"name\":\"weather\""),
            "{text}"
        );
    }
}
