//! Templates and expressions are parsed here, so that a typing error is a condition and not a failed run.

use std::panic::catch_unwind;

use super::validate::InvalidAgent;

/// Checks a minijinja template.
pub(super) fn template(path: &str, source: &str) -> Result<(), InvalidAgent> {
    let environment = minijinja::Environment::new();
    match environment.template_from_str(source) {
        Ok(_) => Ok(()),
        Err(error) => Err(InvalidAgent::at(
            path,
            format!(
                "the template cannot be read: {}",
                one_line(&error.to_string())
            ),
        )),
    }
}

/// Checks a CEL expression.
pub(super) fn expression(path: &str, source: &str) -> Result<(), InvalidAgent> {
    // The parser comes from outside and is fed by users: a panic in it is a bad expression, not our end.
    let why = match catch_unwind(|| cel::Program::compile(source)) {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => one_line(&error.to_string()),
        Err(_) => "the parser gave up".to_owned(),
    };
    Err(InvalidAgent::at(
        path,
        format!("the expression `{source}` cannot be read: {why}"),
    ))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{expression, template};

    #[test]
    fn typing_errors_have_their_path() {
        assert!(template("spec.x", "{{ input }}").is_ok());
        assert!(
            template("spec.x", "{{ input ")
                .expect_err("an error")
                .to_string()
                .starts_with("spec.x: the template")
        );
        assert!(expression("spec.x", "state.a > 1 && has(state.b)").is_ok());
        assert!(
            expression("spec.x", "state.a >")
                .expect_err("an error")
                .to_string()
                .starts_with("spec.x: the expression `state.a >`")
        );
    }
}
