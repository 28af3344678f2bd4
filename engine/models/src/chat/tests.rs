//! Claims about chat templates.

use serde_json::json;

use super::{ChatInput, ChatTemplate, InvalidChat};

fn render(template: &str) -> Result<String, InvalidChat> {
    let input = ChatInput {
        messages: vec![json!({"role": "user", "content": " Grüße <b> "})],
        tools: Some(vec![json!({"name": "f", "list": [1, 2]})]),
        add_generation_prompt: true,
        bos_token: "<s>",
        eos_token: "</s>",
        extra: serde_json::Map::new(),
    };
    ChatTemplate::new(template)?.render(&input, |format| format!("[{format}]"))
}

#[track_caller]
fn check(template: &str, expected: &str) {
    assert_eq!(render(template).unwrap(), expected, "{template}");
}

#[test]
fn templates_see_what_hugging_face_gives_them() {
    check(
        "{{ bos_token }}{{ messages[0]['role'] }}{{ eos_token }}",
        "<s>user</s>",
    );
    check(
        "{% if add_generation_prompt %}\n  yes\n{% endif %}",
        "  yes\n",
    );
    check(
        "  {% for m in messages %}\n{{ m.content.strip() }}{% endfor %}",
        "Grüße <b>",
    );
    check("{{ messages[0].missing is defined }}", "False");
    check("{{ strftime_now('%d %b') }}", "[%d %b]");
    check(
        "{{ tools[0] | tojson }}",
        r#"{"name": "f", "list": [1, 2]}"#,
    );
    check("{{ tools[0].list | tojson(indent=2) }}", "[\n  1,\n  2\n]");
    check("{{ messages[0].content | tojson }}", r#"" Grüße <b> ""#);
}

#[test]
fn methods_of_python_work() {
    check(
        "{{ 'a b'.split(' ')[-1] }}|{{ 'a,b,c'.split(',', 1) | length }}",
        "b|2",
    );
    check(
        "{{ 'xax'.strip('x') }}{{ 'xa'.lstrip('x') }}{{ 'ax'.rstrip('x') }}",
        "aaa",
    );
    check(
        "{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith('x') }}",
        "TrueFalse",
    );
    check(
        "{{ 'one two'.title() }} {{ 'ONE'.lower() }} {{ 'a'.upper() }}",
        "One Two one A",
    );
    check(
        "{{ 'a-b'.replace('-', '+') }}{{ 'über x'.find('x') }}",
        "a+b5",
    );
    check(
        "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('b', 2) }}",
        "a12",
    );
}

#[test]
fn a_template_can_refuse_and_cannot_run_away() {
    let refused = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the model's chat template refuses the messages: roles must alternate"
    );
    let endless = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
    assert!(matches!(render(endless), Err(InvalidChat::Refused(_))));
    assert!(matches!(render("{% if %}"), Err(InvalidChat::Template(_))));
}
