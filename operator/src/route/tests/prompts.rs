//! A Route's prompts: what is found in ConfigMaps, and what the status says of the rest.

use std::collections::BTreeMap;

use protocol::snapshot::{PromptMessage, Prompts};
use serde_json::json;

use super::*;

const LIST: &str = r#"[{"role": "user", "content": "q"}]"#;

fn world_with_prompts() -> World {
    let data = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        let owned = pairs.map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        Some(owned.collect::<BTreeMap<_, _>>())
    };
    let found = data(&[
        ("house", "be kind"),
        ("list", LIST),
        ("bad", "[1]"),
        ("blank", " "),
    ]);
    World {
        config_maps: BTreeMap::from([("prompts".to_owned(), found), ("gone".to_owned(), None)]),
        ..world()
    }
}

#[track_caller]
fn check(config_map: &str, key: &str, expected: Result<&str, &str>) {
    let reference = json!({"name": config_map, "key": key});
    let prompts = json!({"default": "t", "templates": [{"name": "t", "configMapRef": reference}]});
    let route = route("r", 1, &["chat"], &json!({"prompts": prompts}));
    let valid = validate(&route, &world_with_prompts()).expect("valid");
    let entries = in_order(build(&valid));
    let found: &Prompts = entries[0].prompts.as_deref().expect("prompts");
    assert_eq!(found.default.as_deref(), Some("t"));
    match expected {
        Ok(text) => {
            let messages = PromptMessage::read(text).expect("messages");
            assert_eq!(
                (found.templates[0].messages.clone(), valid.unresolved.len()),
                (messages, 0)
            );
        }
        Err(why) => {
            assert!(found.templates.is_empty());
            let (_, message) = &valid.unresolved[0];
            assert!(message.contains(why), "{message}");
        }
    }
}

#[test]
fn templates_are_read_from_config_maps() {
    check("prompts", "house", Ok("be kind"));
    check("prompts", "list", Ok(LIST));
}

#[test]
fn the_status_says_what_is_missing() {
    check(
        "gone",
        "x",
        Err("the ConfigMap `gone`, which does not exist in this namespace or lacks the label"),
    );
    check(
        "prompts",
        "x",
        Err("the key `x`, which the ConfigMap `prompts` lacks"),
    );
    check("prompts", "bad", Err("which is no list of messages"));
    check("prompts", "blank", Err("which is empty"));
}
