//! A Workspace's plans and statuses, without a client.

use std::sync::Arc;

use crds::{Workspace, WorkspaceTemplate};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod};
use protocol::secret::SecretString;
use serde_json::{Value, json};

use super::{
    build::{Children, build},
    dereference::World,
    must_go,
    status::{Observed, status},
    validate::validate,
};
use crate::context::Settings;

fn workspace(is_running: bool) -> Workspace {
    let meta = json!({"name": "desk", "namespace": "n", "uid": "u", "generation": 1});
    let spec = json!({"templateRef": {"name": "t"}, "running": is_running});
    serde_json::from_value(json!({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "Workspace", "metadata": meta, "spec": spec})).expect("a workspace")
}

fn template(spec: &Value) -> Arc<WorkspaceTemplate> {
    let meta = json!({"name": "t", "namespace": "n"});
    Arc::new(serde_json::from_value(json!({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "WorkspaceTemplate", "metadata": meta, "spec": spec})).expect("a template"))
}

fn children(template_spec: &Value) -> Children {
    let settings = Settings {
        image: "builtin://qd".to_owned(),
        system_namespace: "system".to_owned(),
        gateway_url: String::new(),
    };
    let world = World {
        template: Some(template(template_spec)),
        ..World::default()
    };
    let valid = validate(&workspace(true), &world).expect("valid");
    build(&valid, &SecretString::new("t".to_owned()), &settings)
}

fn container<'a>(pod: &'a Pod, name: &str) -> &'a Container {
    let spec = pod.spec.as_ref().expect("a spec");
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|container| container.name == name)
        .expect("a container")
}

#[test]
fn without_domains_nothing_gets_out() {
    let children = children(&json!({"image": "builtin://host"}));
    let programs = container(&children.pod, "workspace");
    assert_eq!(
        programs.command.clone().expect("a command").join(" "),
        "/.qd/qd workspace-init --socket-dir /run/quarterdeck --home /work"
    );
    assert!(
        !programs
            .env
            .iter()
            .flatten()
            .any(|variable| variable.name.contains("PROXY"))
    );
    assert!(children.policy.spec.expect("a spec").egress.is_none());
}

#[test]
fn domains_are_reached_through_the_gate_only() {
    let children = children(
        &json!({"image": "i", "network": {"egress": {"domains": ["pypi.example", "*.internal"]}}}),
    );
    let gate = container(&children.pod, "gate")
        .args
        .clone()
        .expect("arguments")
        .join(" ");
    assert_eq!(
        gate,
        "workspace-gate --listen $(POD_IP):7681 --socket-dir /run/quarterdeck --token-file /var/run/secrets/quarterdeck-workspace/token \
         --home-dir /home/workspace-volume --egress-allow pypi.example --egress-allow *.internal"
    );
    let programs = container(&children.pod, "workspace");
    assert!(
        programs
            .command
            .clone()
            .expect("a command")
            .join(" ")
            .ends_with("--proxy-port 3128")
    );
    assert!(
        programs
            .env
            .iter()
            .flatten()
            .any(|variable| variable.name == "HTTPS_PROXY"
                && variable.value.as_deref() == Some("http://127.0.0.1:3128"))
    );
    assert_eq!(
        children
            .policy
            .spec
            .expect("a spec")
            .egress
            .map(|rules| rules.len()),
        Some(2)
    );
}

#[test]
fn every_container_is_restricted() {
    let pod = children(&json!({"image": "i"})).pod;
    for name in ["install", "workspace", "gate"] {
        let security = container(&pod, name)
            .security_context
            .clone()
            .expect("a security context");
        assert_eq!(
            (
                security.allow_privilege_escalation,
                security.read_only_root_filesystem
            ),
            (Some(false), Some(true)),
            "{name}"
        );
        assert_eq!(
            security
                .capabilities
                .and_then(|capabilities| capabilities.drop),
            Some(vec!["ALL".to_owned()]),
            "{name}"
        );
    }
    let spec = pod.spec.expect("a spec");
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_eq!(
        spec.security_context
            .and_then(|security| security.run_as_non_root),
        Some(true)
    );
    // Only the tools are shared read-only; the token is the gate's alone.
    let mounts = |name: &str| {
        spec.containers
            .iter()
            .find(|container| container.name == name)
            .and_then(|container| container.volume_mounts.clone())
            .expect("mounts")
    };
    assert!(
        mounts("workspace")
            .iter()
            .all(|mount| mount.name != "token")
    );
    assert!(
        mounts("workspace")
            .iter()
            .any(|mount| mount.name == "tools" && mount.read_only == Some(true))
    );
}

fn pod(status: &Value) -> Arc<Pod> {
    let meta = json!({"name": "desk", "labels": {"quarterdeck.dev/revision": "old"}, "creationTimestamp": "2026-01-01T00:00:00Z"});
    Arc::new(serde_json::from_value(json!({"metadata": meta, "status": status})).expect("a pod"))
}

fn running(isolation: &str) -> Value {
    json!({"phase": "Running", "podIP": "10.0.0.7", "conditions": [
        {"type": "Ready", "status": "True"},
        {"type": "quarterdeck.dev/isolation", "status": "False", "message": isolation}
    ]})
}

fn world(pod: Option<Arc<Pod>>) -> World {
    let claim: PersistentVolumeClaim = serde_json::from_value(
        json!({"metadata": {"name": "desk-home"}, "status": {"phase": "Bound"}}),
    )
    .expect("a claim");
    World {
        template: Some(template(&json!({"image": "i"}))),
        claim: Some(Arc::new(claim)),
        pod,
        ..World::default()
    }
}

#[track_caller]
fn check(is_running: bool, world: &World, phase: &str, expected: &[&str]) {
    let workspace = workspace(is_running);
    let valid = validate(&workspace, world);
    let status = status(&Observed {
        workspace: &workspace,
        valid: valid.as_ref(),
        refusal: None,
        world,
        now: Timestamp::UNIX_EPOCH,
    });
    let lines = status.conditions.iter().map(|condition| {
        format!(
            "{}={} {}",
            condition.kind,
            condition.status.as_str(),
            condition.reason
        )
    });
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    assert_eq!(status.phase.as_deref(), Some(phase));
}

#[test]
fn a_running_workspace_says_what_confines_it() {
    check(
        true,
        &world(Some(pod(&running(
            "gate: not isolated: a process; workspace: isolated: user namespace; seccomp",
        )))),
        "Running",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "StorageReady=True Bound",
            "Available=True MinimumReplicasAvailable",
            "NetworkEnforced=True Enforced",
            "Isolated=True Enforced",
            "Ready=True Ready",
        ],
    );
    check(
        true,
        &world(Some(pod(&running(
            "workspace: not isolated: no namespaces; gate: not isolated",
        )))),
        "Running",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "StorageReady=True Bound",
            "Available=True MinimumReplicasAvailable",
            "NetworkEnforced=False NotEnforced",
            "Isolated=False NotEnforced",
            "Ready=True Ready",
        ],
    );
}

#[test]
fn a_stopped_workspace_is_ready_as_such() {
    check(
        false,
        &world(None),
        "Stopped",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Available=True Stopped",
            "Ready=True Stopped",
        ],
    );
}

#[test]
fn a_missing_template_is_named() {
    let world = World::default();
    check(
        true,
        &world,
        "Pending",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=False RefNotFound",
            "Ready=False RefNotFound",
            "Reconciling=True Progressing",
        ],
    );
}

#[test]
fn a_pod_that_ended_goes_after_a_while() {
    let at = |seconds: i64| {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().expect("a time")
            + jiff::SignedDuration::from_secs(seconds)
    };
    let ended = pod(&json!({"phase": "Failed"}));
    assert!(!must_go(&ended, at(5)));
    assert!(must_go(&ended, at(20)));
    assert!(!must_go(&pod(&running("")), at(100)));
}
