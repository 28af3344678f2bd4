//! Selector tables: what is selected, and how faults are worded.

use serde_json::json;

use super::*;

#[track_caller]
fn check(selector: &str, labels: &Value, expected: bool) {
    let selector = LabelSelector::parse(selector).unwrap();
    assert_eq!(
        selector.matches(Some(labels)),
        expected,
        "{selector:?} on {labels}"
    );
}

#[test]
fn label_requirements_select() {
    let labels = json!({"a": "b", "n": "5", "app.kubernetes.io/name": "x"});
    check("", &labels, true);
    check("a=b", &labels, true);
    check("a==b,n", &labels, true);
    check("a!=b", &labels, false);
    check("missing!=b", &labels, true);
    check("a in (c, b)", &labels, true);
    check("a notin (b)", &labels, false);
    check("missing notin (b)", &labels, true);
    check("!a", &labels, false);
    check("!missing", &labels, true);
    check("n>4", &labels, true);
    check("n<5", &labels, false);
    check("app.kubernetes.io/name=x", &labels, true);
    check("a=", &labels, false);
}

#[test]
fn label_faults_are_worded_as_the_real_server_words_them() {
    let error = LabelSelector::parse("a b").unwrap_err();
    assert_eq!(
        error.message,
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
    );
    assert!(LabelSelector::parse("a=b,").is_err());
    assert!(LabelSelector::parse("a in b").is_err());
    assert!(LabelSelector::parse("-a").is_err());
}

#[test]
fn selector_objects_select() {
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}]});
    let selector = LabelSelector::from_object(&selector).unwrap();
    assert!(selector.matches(Some(&json!({"a": "b"}))));
    assert!(!selector.matches(Some(&json!({"a": "b", "c": "d"}))));
    assert!(!selector.matches(None));
}

#[test]
fn field_terms_select() {
    let selector = FieldSelector::parse("metadata.name=a,status.phase!=Running").unwrap();
    let field = |path: &str| {
        if path == "metadata.name" {
            "a".to_owned()
        } else {
            "Pending".to_owned()
        }
    };
    assert!(selector.matches(field));
    assert_eq!(selector.exact("metadata.name"), Some("a"));
    assert_eq!(selector.exact("status.phase"), None);
    assert_eq!(
        FieldSelector::parse(r"a=b\,c").unwrap().exact("a"),
        Some("b,c")
    );
    assert!(FieldSelector::parse("nope").is_err());
}
