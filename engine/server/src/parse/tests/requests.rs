//! Claims about what requests and templates say of tools and formats.

use serde_json::json;

use super::super::{Formats, Tool, ToolChoice};

#[test]
fn formats_are_found_in_the_template() {
    let check = |template: &str, tools: &str, reasoning: Option<&str>, has_tools: bool| {
        let formats = Formats::detect(Some(template), None, None).unwrap();
        let start = formats.reasoning.as_ref().map(|format| &*format.start);
        assert_eq!(
            (formats.tools.name, start, formats.template_has_tools),
            (tools, reasoning, has_tools),
            "{template}"
        );
    };
    check("{% for message in messages %}", "hermes", None, false);
    check(
        "{% if tools %}<tool_call>{% endif %} </think>",
        "hermes",
        Some("<think>"),
        true,
    );
    check(
        "{%- if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]",
        "mistral",
        None,
        true,
    );
    check(
        "tools [TOOL_CALLS] [ARGS] [/THINK]",
        "mistral-args",
        Some("[THINK]"),
        true,
    );
    check("tools <|python_tag|>", "llama3-json", None, true);
    check(
        "builtin_tools [func_name1(params_name1=",
        "pythonic",
        None,
        false,
    );
    for (tools, reasoning) in [(Some("nonsense"), None), (None, Some("a b"))] {
        assert!(Formats::detect(None, tools, reasoning).is_err());
    }
}

#[test]
fn tools_and_choices_are_read_from_requests() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}});
    let read = Tool::read_all(std::slice::from_ref(&tool)).unwrap();
    assert_eq!((read[0].name.as_str(), read[0].strict), ("f", true));
    for (tools, parameter) in [
        (json!([1]), "tools[0].type"),
        (json!([{"type": "function"}]), "tools[0].function"),
        (
            json!([{"type": "function", "function": {"name": "a b"}}]),
            "tools[0].function.name",
        ),
        (
            json!([{"type": "function", "function": {"name": "a", "parameters": 1}}]),
            "tools[0].function.parameters",
        ),
        (json!([tool, tool]), "tools[1].function.name"),
    ] {
        let error = Tool::read_all(tools.as_array().unwrap()).unwrap_err();
        assert_eq!(error.parameter, parameter);
    }
    let named = json!({"type": "function", "function": {"name": "f"}});
    for (choice, expected) in [
        (None, Some(ToolChoice::Auto)),
        (Some(json!("none")), Some(ToolChoice::None)),
        (Some(json!("required")), Some(ToolChoice::Required)),
        (Some(named), Some(ToolChoice::Named("f".to_owned()))),
        (
            Some(json!({"type": "function", "name": "f"})),
            Some(ToolChoice::Named("f".to_owned())),
        ),
        (Some(json!("maybe")), None),
        (
            Some(json!({"type": "function", "function": {"name": "g"}})),
            None,
        ),
        (Some(json!(1)), None),
    ] {
        assert_eq!(
            ToolChoice::read(choice.as_ref(), &read).ok(),
            expected,
            "{choice:?}"
        );
    }
    assert!(ToolChoice::read(Some(&json!("required")), &[]).is_err());
}
