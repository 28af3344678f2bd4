//! Rules of a Route's prompts.

use serde_json::{Value, json};

use super::check;

#[test]
fn a_default_prompt_is_one_of_the_templates() {
    let route = |prompts: Value| json!({"match": {"models": ["m"]}, "targets": {"backends": [{"name": "b", "modelRef": {"name": "m"}}]}, "prompts": prompts});
    let template = json!({"name": "a", "configMapRef": {"name": "c", "key": "k"}});
    check("Route", &route(json!({"templates": [template]})), None);
    check(
        "Route",
        &route(json!({"default": "a", "templates": [template]})),
        None,
    );
    let none = route(json!({"default": "b", "templates": [template]}));
    check("Route", &none, Some("none of the templates"));
}
