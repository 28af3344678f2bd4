//! From a wish to the source of a grammar.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::TokEnv;
use serde_json::{Value, json};

use super::lark::{ANY_TEXT, Draft, Mark, literal, mark};
use super::{GrammarError, GrammarSpec, Reasoning, Structure, tools};

/// JSON may be indented, but a model that loses its way must not fill its answer with space.
const SPACE: &str = r"[\x20\x0A\x0D\x09]{1,64}";

/// The source of the grammar for a wish.
pub(super) fn of(
    spec: &GrammarSpec,
    reasoning: Option<&Reasoning>,
    environment: &TokEnv,
) -> Result<TopLevelGrammar, GrammarError> {
    let Some(reasoning) = reasoning else {
        return answer(spec, environment);
    };
    let mut draft = Draft::default();
    let body = rule(spec, environment, &mut draft)?;
    draft.rule("answer", &body);
    reason(reasoning, environment, &mut draft);
    Ok(draft.finish())
}

/// The source for an answer without reasoning, which for the most common wishes needs no rules.
fn answer(spec: &GrammarSpec, environment: &TokEnv) -> Result<TopLevelGrammar, GrammarError> {
    match spec {
        GrammarSpec::JsonObject => Ok(TopLevelGrammar::from_json_schema(any_object())),
        GrammarSpec::JsonSchema { schema, strict } => {
            Ok(TopLevelGrammar::from_json_schema(prepared(schema, *strict)))
        }
        GrammarSpec::Regex(pattern) => Ok(TopLevelGrammar::from_regex(pattern)),
        GrammarSpec::Lark(source) => Ok(TopLevelGrammar::from_lark(source.clone())),
        GrammarSpec::Choice(_)
        | GrammarSpec::ToolCalls(_)
        | GrammarSpec::StructuralTag { .. }
        | GrammarSpec::Either(_) => {
            let mut draft = Draft::default();
            let body = rule(spec, environment, &mut draft)?;
            draft.rule("start", &body);
            Ok(draft.finish())
        }
    }
}

/// The body of a rule for an answer; adds what it refers to.
fn rule(
    spec: &GrammarSpec,
    environment: &TokEnv,
    draft: &mut Draft,
) -> Result<String, GrammarError> {
    Ok(match spec {
        GrammarSpec::JsonObject => draft.schema(any_object()),
        GrammarSpec::JsonSchema { schema, strict } => draft.schema(prepared(schema, *strict)),
        GrammarSpec::Regex(pattern) => slashed(pattern),
        GrammarSpec::Lark(source) => format!("%lark {{\n{source}\n}}"),
        GrammarSpec::Choice(choices) => choice(choices)?,
        GrammarSpec::ToolCalls(calls) => tools::rule(calls, environment, draft)?,
        GrammarSpec::StructuralTag {
            structures,
            triggers,
        } => structural(structures, triggers, draft)?,
        GrammarSpec::Either(specs) => either(specs, environment, draft)?,
    })
}

fn either(
    specs: &[GrammarSpec],
    environment: &TokEnv,
    draft: &mut Draft,
) -> Result<String, GrammarError> {
    let mut names = Vec::new();
    for spec in specs {
        let body = rule(spec, environment, draft)?;
        let name = format!("option_{}", draft.next_index());
        draft.rule(&name, &body);
        names.push(name);
    }
    if names.is_empty() {
        return Err(GrammarError::invalid("there is nothing to choose from"));
    }
    Ok(names.join(" | "))
}

fn any_object() -> Value {
    prepared(&json!({"type": "object"}), true)
}

/// A schema with the compiler's options in it. What the caller may have put in their place is dropped.
pub(super) fn prepared(schema: &Value, strict: bool) -> Value {
    match schema {
        Value::Object(object) => {
            let mut object = object.clone();
            let options = json!({"whitespace_pattern": SPACE, "lenient": !strict});
            object.insert("x-guidance".to_owned(), options);
            Value::Object(object)
        }
        // `true` is the schema of anything.
        Value::Bool(true) => prepared(&json!({}), strict),
        other => other.clone(),
    }
}

/// A regular expression between slashes.
fn slashed(pattern: &str) -> String {
    format!("/{}/", llguidance::regex_to_lark(pattern, ""))
}

fn choice(choices: &[String]) -> Result<String, GrammarError> {
    if choices.is_empty() || choices.iter().any(String::is_empty) {
        return Err(GrammarError::invalid(
            "there must be choices, none of them empty",
        ));
    }
    let literals: Vec<_> = choices.iter().map(|choice| literal(choice)).collect();
    Ok(literals.join(" | "))
}

/// Free text; behind a trigger, one of the structures that begin with it.
fn structural(
    structures: &[Structure],
    triggers: &[String],
    draft: &mut Draft,
) -> Result<String, GrammarError> {
    if structures.is_empty() || triggers.is_empty() || triggers.iter().any(String::is_empty) {
        let message = "a structural tag needs structures and triggers, none of the triggers empty";
        return Err(GrammarError::invalid(message));
    }
    let mut names = Vec::new();
    for (index, structure) in structures.iter().enumerate() {
        let trigger = triggers
            .iter()
            .find(|trigger| structure.begin.starts_with(trigger.as_str()));
        let Some(trigger) = trigger else {
            let message = format!("no trigger begins {:?}", structure.begin);
            return Err(GrammarError::invalid(message));
        };
        let rest = &structure.begin[trigger.len()..];
        let schema = draft.schema(prepared(&structure.schema, true));
        let head = format!("head_{index}");
        draft.text(&Mark::Text(trigger.clone()).rule_up_to(&head));
        let parts = [
            Mark::Text(rest.to_owned()).expression(),
            schema,
            Mark::Text(structure.end.clone()).expression(),
        ];
        draft.rule(
            &format!("tag_{index}"),
            &format!("{head} {}", parts.join(" ")),
        );
        names.push(format!("tag_{index}"));
    }
    draft.rule("rest", ANY_TEXT);
    Ok(format!("( {} )* rest", names.join(" | ")))
}

/// The start of a grammar whose answer may have reasoning before it.
fn reason(reasoning: &Reasoning, environment: &TokEnv, draft: &mut Draft) {
    let end = mark(&reasoning.format.end, environment);
    draft.text(&end.rule_up_to("thought"));
    draft.rule("SPACE", "/[ \\n]{0,8}/");
    if reasoning.is_open {
        draft.rule("start", "thought SPACE answer");
    } else {
        let start = mark(&reasoning.format.start, environment).expression();
        draft.rule("start", &format!("( {start} thought SPACE )? answer"));
    }
}
