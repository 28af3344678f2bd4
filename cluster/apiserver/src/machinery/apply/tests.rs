//! Apply tables: who owns what after a sequence of writes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fieldset::Step;
use super::*;
use crate::machinery::builtin;

fn widget() -> Structural {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "image": {"type": "string"}, "replicas": {"type": "integer"}, "minReplicas": {"type": "integer"},
            "cfg": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "atoms": {"type": "array", "items": {"type": "string"}},
            "env": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "value": {"type": "string"}}}}}},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}});
    Structural::from_crd_schema(&schema).unwrap()
}

fn object(spec: &Value) -> Value {
    json!({"apiVersion": "g.example.com/v1", "kind": "Widget", "metadata": {"name": "s"}, "spec": spec})
}

/// A story of writes to one object.
struct Story {
    schema: Structural,
    live: Option<Value>,
    now: u32,
}

impl Story {
    fn new() -> Self {
        Self {
            schema: widget(),
            live: None,
            now: 0,
        }
    }

    fn try_apply(&mut self, manager: &str, spec: &Value, force: bool) -> Result<(), ApiError> {
        self.now += 1;
        let now = format!("T{:02}", self.now);
        let write = Write {
            schema: &self.schema,
            manager,
            api_version: "g.example.com/v1",
            subresource: None,
            force,
            now: &now,
            reset: &["status"],
        };
        self.live = Some(apply(self.live.as_ref(), &object(spec), &write)?);
        Ok(())
    }

    #[track_caller]
    fn apply(mut self, manager: &str, spec: &Value) -> Self {
        self.try_apply(manager, spec, false).unwrap();
        self
    }

    #[track_caller]
    fn force(mut self, manager: &str, spec: &Value) -> Self {
        self.try_apply(manager, spec, true).unwrap();
        self
    }

    fn update(mut self, manager: &str, change: impl Fn(&mut Value)) -> Self {
        self.now += 1;
        let now = format!("T{:02}", self.now);
        let write = Write {
            schema: &self.schema,
            manager,
            api_version: "g.example.com/v1",
            subresource: None,
            force: false,
            now: &now,
            reset: &["status"],
        };
        let mut new = self.live.clone().unwrap_or_else(|| object(&json!({})));
        change(&mut new);
        self.live = Some(track_update(self.live.as_ref(), new, &write));
        self
    }

    #[track_caller]
    fn spec(self, expected: &Value) -> Self {
        assert_eq!(
            self.live.as_ref().and_then(|live| live.get("spec")),
            Some(expected)
        );
        self
    }

    /// Entries as manager, time and fields.
    #[track_caller]
    fn owners(self, expected: &Value) -> Self {
        let entries = self
            .live
            .as_ref()
            .and_then(|live| live.pointer("/metadata/managedFields"));
        let entries = entries
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let shown: Vec<Value> = entries
            .iter()
            .map(|entry| json!([entry["manager"], entry["time"], entry["fieldsV1"]]))
            .collect();
        assert_eq!(json!(shown), *expected);
        self
    }
}

fn applied() -> Value {
    json!({"image": "x", "replicas": 3, "env": [{"name": "A", "value": "1"}], "tags": ["t1"]})
}

fn owned() -> Value {
    json!({"f:spec": {"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:image": {}, "f:replicas": {},
        "f:tags": {"v:\"t1\"": {}}}})
}

#[test]
fn an_applier_owns_what_it_says() {
    Story::new()
        .apply("m1", &applied())
        .spec(&applied())
        .owners(&json!([["m1", "T01", owned()]]));
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let mut story = Story::new().apply("m1", &applied());
    let before = story.live.clone();
    story.try_apply("m1", &applied(), false).unwrap();
    assert_eq!(story.live, before);
}

#[test]
fn changing_what_another_applied_is_a_conflict() {
    let mut story = Story::new().apply("m1", &applied());
    let error = story
        .try_apply(
            "m2",
            &json!({"image": "y", "env": [{"name": "B", "value": "2"}]}),
            false,
        )
        .unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"m1\": .spec.image"
    );
    let causes = error.details.unwrap().causes;
    assert_eq!(
        causes
            .first()
            .map(|cause| (cause.reason, cause.field.as_str())),
        Some(("FieldManagerConflict", ".spec.image"))
    );
    let error = story
        .try_apply("m2", &json!({"image": "y", "replicas": 4}), false)
        .unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"m1\":\n- .spec.image\n- .spec.replicas"
    );
}

#[test]
fn force_takes_fields_and_merges_lists() {
    Story::new()
        .apply("m1", &applied())
        .force("m2", &json!({"image": "y", "env": [{"name": "B", "value": "2"}], "tags": ["t2"]}))
        .spec(&json!({"image": "y", "replicas": 3, "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "tags": ["t1", "t2"]}))
        .owners(&json!([
            ["m1", "T01", {"f:spec": {"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:replicas": {},
                "f:tags": {"v:\"t1\"": {}}}}],
            ["m2", "T02", {"f:spec": {"f:env": {"k:{\"name\":\"B\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:image": {},
                "f:tags": {"v:\"t2\"": {}}}}],
        ]));
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_own_it() {
    Story::new()
        .apply("m1", &applied())
        .apply("m3", &json!({"image": "x"}))
        .owners(&json!([["m3", null, {"f:spec": {"f:image": {}}}], ["m1", "T01", owned()]]))
        .apply("m1", &json!({"replicas": 3}))
        .spec(&json!({"image": "x", "replicas": 3}))
        .owners(&json!([["m3", null, {"f:spec": {"f:image": {}}}], ["m1", "T03", {"f:spec": {"f:replicas": {}}}]]));
}

#[test]
fn updates_take_what_they_change() {
    let mut story = Story::new()
        .apply("m1", &json!({"image": "y", "replicas": 3}))
        .update("upd", |live| live["spec"]["replicas"] = json!(7))
        .owners(&json!([["m1", "T01", {"f:spec": {"f:image": {}}}], ["upd", "T02", {"f:spec": {"f:replicas": {}}}]]));
    let error = story
        .try_apply("m1", &json!({"image": "y", "replicas": 3}), false)
        .unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"upd\" using g.example.com/v1: .spec.replicas"
    );
}

#[test]
fn a_create_owns_all_of_it() {
    Story::new()
        .update("golden", |live| live["spec"] = json!({"image": "x", "cfg": {"any": {"thing": 1}}, "atoms": ["a"], "labels": {"l": "1"}}))
        .owners(&json!([["golden", "T01", {"f:spec": {".": {}, "f:atoms": {}, "f:cfg": {".": {}, "f:any": {".": {}, "f:thing": {}}},
            "f:image": {}, "f:labels": {".": {}, "f:l": {}}}}]]));
}

#[test]
fn an_update_that_changes_nothing_keeps_times() {
    let story = Story::new().update("golden", |live| live["spec"]["image"] = json!("x"));
    let before = story.live.clone();
    assert_eq!(story.update("other", |_| ()).live, before);
}

#[test]
fn owners_can_be_forgotten_and_stay_so_until_the_next_apply() {
    Story::new()
        .apply("m1", &json!({"image": "y"}))
        .update("upd", |live| live["metadata"]["managedFields"] = json!([{}]))
        .owners(&json!([]))
        .update("upd", |live| live["spec"]["replicas"] = json!(7))
        .owners(&json!([]))
        .force("m1", &json!({"image": "z"}))
        .owners(&json!([["m1", "T04", {"f:spec": {"f:image": {}}}], ["before-first-apply", "T04", {"f:spec": {".": {}, "f:replicas": {}}}]]));
}

#[test]
fn finalizers_are_owned_one_by_one() {
    Story::new()
        .update("a", |live| live["metadata"]["finalizers"] = json!(["x.io/f"]))
        .owners(&json!([["a", "T01", {"f:metadata": {"f:finalizers": {".": {}, "v:\"x.io/f\"": {}}}, "f:spec": {}}]]))
        .update("a", |live| live["metadata"]["finalizers"] = json!([]))
        .owners(&json!([["a", "T01", {"f:spec": {}}]]));
}

#[track_caller]
fn check_unfit(spec: &Value, expected: &str) {
    let error = Story::new().try_apply("m1", spec, false).unwrap_err();
    let prefix = "failed to create typed patch object (/s; g.example.com/v1, Kind=Widget): ";
    assert_eq!(
        (error.code, error.message.strip_prefix(prefix)),
        (500, Some(expected))
    );
}

#[test]
fn what_does_not_fit_the_schema_is_refused_in_the_real_words() {
    check_unfit(
        &json!({"image": "y", "replicas": "three"}),
        ".spec.replicas: expected numeric (int or float), got string",
    );
    check_unfit(
        &json!({"image": "y", "bogus": 1}),
        ".spec.bogus: field not declared in schema",
    );
    check_unfit(
        &json!({"env": [{"name": "A"}, {"name": "A"}]}),
        ".spec.env: duplicate entries for key [name=\"A\"]",
    );
    check_unfit(
        &json!({"image": 1}),
        ".spec.image: expected string, got &value.valueUnstructured{Value:1}",
    );
    check_unfit(
        &json!({"env": [{"value": "A"}]}),
        ".spec.env: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
    );
}

#[test]
fn built_in_objects_start_with_the_parts_that_are_always_there() {
    let schema = builtin::schema("apps", "v1", "Deployment").unwrap();
    let new = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}}});
    let write = Write {
        schema,
        manager: "m",
        api_version: "apps/v1",
        subresource: None,
        force: false,
        now: "T",
        reset: &["status"],
    };
    let tracked = track_update(None, new, &write);
    assert_eq!(
        tracked.pointer("/metadata/managedFields/0/fieldsV1"),
        Some(
            &json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:replicas": {}, "f:selector": {},
            "f:strategy": {"f:type": {}}, "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {
                "k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:ports": {".": {},
                    "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}})
        )
    );
}

#[test]
fn kubectl_may_take_over_what_it_applied_by_itself_before() {
    let before = json!({"image": "x", "replicas": 3});
    let annotation = object(&before).to_string();
    let mut story = Story::new().update("kubectl-client-side-apply", |live| {
        live["spec"] = before.clone();
        live["metadata"]["annotations"] = json!({last_applied::ANNOTATION: annotation});
    });
    let new = json!({"image": "y", "replicas": 3});
    assert!(story.try_apply("other", &new, false).is_err());
    story.try_apply("kubectl", &new, false).unwrap();
    let live = story.live.clone().unwrap();
    assert_eq!(live["spec"], new);
    let noted = live["metadata"]["annotations"][last_applied::ANNOTATION]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(noted).unwrap(), object(&new));
}

#[test]
fn kubectl_may_not_take_what_others_changed_since() {
    let before = json!({"image": "x"});
    let annotation = object(&before).to_string();
    let mut story = Story::new()
        .update("kubectl-client-side-apply", |live| {
            live["spec"] = before.clone();
            live["metadata"]["annotations"] = json!({last_applied::ANNOTATION: annotation});
        })
        .update("other", |live| live["spec"]["image"] = json!("z"));
    assert!(
        story
            .try_apply("kubectl", &json!({"image": "y"}), false)
            .is_err()
    );
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = "[a-z.:\"]{1,4}";
    let step = prop_oneof![
        name.prop_map(Step::Field),
        name.prop_map(|text| Step::Value(json!(text).to_string())),
        (name, 0..9_i32).prop_map(|(key, value)| Step::Key(vec![(key, value.to_string())])),
        (0..9_usize).prop_map(Step::Index),
    ];
    proptest::collection::vec(step, 1..5)
}

proptest! {
    #[test]
    fn field_sets_survive_their_written_form(paths in proptest::collection::vec(steps(), 0..12)) {
        let mut set = FieldSet::default();
        for path in &paths {
            set.insert(path);
        }
        prop_assert_eq!(FieldSet::decode(&set.encode()), Some(set.clone()));
        prop_assert!(set.difference(&set).is_empty());
        prop_assert_eq!(set.union(&set), set.clone());
        prop_assert_eq!(set.intersection(&set), set);
    }

    #[test]
    fn applying_twice_is_applying_once(image in "[a-z]{0,3}", tags in proptest::collection::btree_set("[a-c]", 0..3), replicas in 0..3_i32) {
        let tags: Vec<String> = tags.into_iter().collect();
        let spec = json!({"image": image, "tags": tags, "replicas": replicas});
        let mut story = Story::new().apply("m1", &json!({"image": "x", "tags": ["b"]})).force("m2", &spec);
        let before = story.live.clone();
        story.try_apply("m2", &spec, false).unwrap();
        prop_assert_eq!(story.live, before);
    }
}

#[test]
fn an_applied_empty_object_keeps_the_defaults_that_filled_it() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "channels": {"type": "object", "additionalProperties": {"type": "object", "properties": {
            "reducer": {"type": "string", "default": "replace"}}}}}}}});
    let mut story = Story {
        schema: Structural::from_crd_schema(&schema).unwrap(),
        live: None,
        now: 0,
    };
    let spec = json!({"channels": {"one": {}, "two": {}}});
    for _ in 0..2 {
        story.try_apply("m1", &spec, false).unwrap();
        let live = story.live.as_mut().unwrap();
        story.schema.apply_defaults(live);
        assert_eq!(
            live["spec"]["channels"],
            json!({"one": {"reducer": "replace"}, "two": {"reducer": "replace"}})
        );
    }
    story
        .try_apply("m1", &json!({"channels": {"one": {}}}), false)
        .unwrap();
    assert_eq!(
        story.live.unwrap()["spec"]["channels"],
        json!({"one": {"reducer": "replace"}})
    );
}
