//! What can be said of a rule before any object exists: whether it parses, and whether the fields it selects are declared.

use kube_cel::cel::Program;
use kube_cel::cel::common::ast::{Expr, IdedExpr, operators};
use serde_json::{Value, json};

/// Variables in scope and the schemas of their values; `None` when the schema is not known.
type Scope<'a> = Vec<(String, Option<&'a Value>)>;

/// Complains about a rule in the words of the CEL compiler.
pub(crate) fn check_rule(rule: &str, schema: &Value, is_root: bool) -> Result<(), String> {
    let program = match Program::compile(rule) {
        Ok(program) => program,
        Err(error) => return Err(format!("compilation failed: {error}")),
    };
    let rooted;
    let schema = if is_root {
        rooted = with_object_fields(schema);
        &rooted
    } else {
        schema
    };
    let mut scope: Scope<'_> = vec![
        ("self".to_owned(), Some(schema)),
        ("oldSelf".to_owned(), Some(schema)),
    ];
    let mut faults = Vec::new();
    walk(program.expression(), &mut scope, &mut faults);
    let Some(field) = faults.first() else {
        return Ok(());
    };
    // The compiler keeps positions to itself; the first selection of that name is the one it met first.
    let start = rule.find(&format!(".{field}")).unwrap_or_default();
    let before = rule.get(..start).unwrap_or_default();
    let line = before.matches('\n').count();
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count();
    let text = rule.lines().nth(line).unwrap_or_default();
    let dots = ".".repeat(column);
    let fault = format!("undefined field '{field}'");
    Err(format!(
        "compilation failed: ERROR: <input>:{}:{}: {fault}\n | {text}\n | {dots}^",
        line + 1,
        column + 1
    ))
}

/// The fields that every object has are known to rules at the root.
fn with_object_fields(schema: &Value) -> Value {
    let mut out = schema.clone();
    let text = json!({"type": "string"});
    let metadata = json!({"type": "object", "properties": {"name": text, "generateName": text}});
    if let Some(fields) = out.as_object_mut() {
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("apiVersion".to_owned(), text.clone());
            properties.insert("kind".to_owned(), text);
            properties.insert("metadata".to_owned(), metadata);
        }
    }
    out
}

/// The schema of an expression's value as far as it is known; undeclared fields are noted.
fn walk<'a>(
    expression: &IdedExpr,
    scope: &mut Scope<'a>,
    faults: &mut Vec<String>,
) -> Option<&'a Value> {
    match &expression.expr {
        Expr::Ident(name) => scope
            .iter()
            .rev()
            .find(|(one, _)| one == name)
            .and_then(|(_, schema)| *schema),
        Expr::Select(select) => {
            let schema = walk(&select.operand, scope, faults)?;
            match field(schema, &select.field) {
                Field::Known(schema) => schema,
                Field::Unknown => {
                    faults.push(select.field.clone());
                    None
                }
            }
        }
        Expr::Call(call) => {
            let mut first = call
                .target
                .as_ref()
                .and_then(|target| walk(target, scope, faults));
            for (at, argument) in call.args.iter().enumerate() {
                let schema = walk(argument, scope, faults);
                if at == 0 && call.target.is_none() {
                    first = schema;
                }
            }
            if call.func_name == operators::INDEX {
                first.and_then(element)
            } else {
                None
            }
        }
        Expr::Comprehension(comprehension) => {
            let range = walk(&comprehension.iter_range, scope, faults);
            walk(&comprehension.accu_init, scope, faults);
            let item = range.and_then(|schema| schema.get("items"));
            scope.push((comprehension.iter_var.clone(), item));
            scope.push((comprehension.accu_var.clone(), None));
            for part in [
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ] {
                walk(part, scope, faults);
            }
            scope.truncate(scope.len() - 2);
            None
        }
        Expr::List(list) => {
            for element in &list.elements {
                walk(element, scope, faults);
            }
            None
        }
        Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => None,
    }
}

fn element(schema: &Value) -> Option<&Value> {
    schema.get("items").or_else(|| {
        schema
            .get("additionalProperties")
            .filter(|one| one.is_object())
    })
}

enum Field<'a> {
    Known(Option<&'a Value>),
    Unknown,
}

fn field<'a>(schema: &'a Value, name: &str) -> Field<'a> {
    let is_open = schema.get("additionalProperties").is_some();
    let is_embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    if is_embedded && matches!(name, "apiVersion" | "kind" | "metadata") {
        return Field::Known(None);
    }
    if is_open {
        return Field::Known(
            schema
                .get("additionalProperties")
                .filter(|one| one.is_object()),
        );
    }
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Field::Known(None);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let found = properties
        .into_iter()
        .flatten()
        .find(|(property, _)| *property == name || escaped(property) == name);
    match found {
        Some((_, schema)) => Field::Known(Some(schema)),
        None => Field::Unknown,
    }
}

/// A property's name as rules write it.
fn escaped(name: &str) -> String {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}
