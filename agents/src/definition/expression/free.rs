//! Which names an expression reads.

use std::collections::BTreeSet;

use cel::common::ast::{EntryExpr, Expr};

/// Collects the names that no comprehension binds, with the field that is selected from them, as `state.n`.
pub(super) fn free_variables(
    expression: &Expr,
    bound: &mut Vec<String>,
    found: &mut BTreeSet<String>,
) {
    match expression {
        Expr::Unspecified | Expr::Literal(_) => {}
        // Names with an `@` are the compiler's own.
        Expr::Ident(name) => {
            if !name.starts_with('@') && !bound.contains(name) {
                found.insert(name.clone());
            }
        }
        Expr::Call(call) => {
            for part in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
                free_variables(&part.expr, bound, found);
            }
        }
        Expr::Select(select) => match &select.operand.expr {
            Expr::Ident(name) if !bound.contains(name) => {
                found.insert(format!("{name}.{}", select.field));
            }
            operand => free_variables(operand, bound, found),
        },
        Expr::List(list) => {
            for element in &list.elements {
                free_variables(&element.expr, bound, found);
            }
        }
        Expr::Map(map) => entries(map.entries.iter().map(|entry| &entry.expr), bound, found),
        Expr::Struct(message) => entries(
            message.entries.iter().map(|entry| &entry.expr),
            bound,
            found,
        ),
        Expr::Comprehension(comprehension) => {
            free_variables(&comprehension.iter_range.expr, bound, found);
            free_variables(&comprehension.accu_init.expr, bound, found);
            let outer = bound.len();
            bound.push(comprehension.iter_var.clone());
            bound.extend(comprehension.iter_var2.clone());
            bound.push(comprehension.accu_var.clone());
            for part in [
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ] {
                free_variables(&part.expr, bound, found);
            }
            bound.truncate(outer);
        }
    }
}

fn entries<'a>(
    entries: impl Iterator<Item = &'a EntryExpr>,
    bound: &mut Vec<String>,
    found: &mut BTreeSet<String>,
) {
    for entry in entries {
        match entry {
            EntryExpr::StructField(field) => free_variables(&field.value.expr, bound, found),
            EntryExpr::MapEntry(pair) => {
                free_variables(&pair.key.expr, bound, found);
                free_variables(&pair.value.expr, bound, found);
            }
        }
    }
}
