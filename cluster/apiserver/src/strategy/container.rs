//! Defaults of containers and volumes.

use serde_json::{Value, json};

use super::{items, set};

/// Fills the defaults of a container.
pub(super) fn default(container: &mut Value) {
    set(Some(container), "terminationMessagePath", || {
        json!("/dev/termination-log")
    });
    set(Some(container), "terminationMessagePolicy", || {
        json!("File")
    });
    set(Some(container), "resources", || json!({}));
    let image = container["image"].as_str().unwrap_or_default().to_owned();
    set(Some(container), "imagePullPolicy", || {
        json!(pull_policy(&image))
    });
    for port in items(container.get_mut("ports")) {
        set(Some(port), "protocol", || json!("TCP"));
    }
    for variable in items(container.get_mut("env")) {
        let source = variable
            .get_mut("valueFrom")
            .and_then(|source| source.get_mut("fieldRef"));
        set(source, "apiVersion", || json!("v1"));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = container.get_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            default_http(
                lifecycle
                    .get_mut(hook)
                    .and_then(|hook| hook.get_mut("httpGet")),
            );
        }
    }
}

fn default_probe(probe: &mut Value) {
    for (name, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        let is_zero = probe.get(name).is_some_and(|found| found == 0);
        if is_zero {
            probe[name] = json!(value);
        }
        set(Some(probe), name, || json!(value));
    }
    default_http(probe.get_mut("httpGet"));
    set(probe.get_mut("grpc"), "service", || json!(""));
}

fn default_http(get: Option<&mut Value>) {
    let Some(get) = get.filter(|get| get.is_object()) else {
        return;
    };
    set(Some(get), "path", || json!("/"));
    set(Some(get), "scheme", || json!("HTTP"));
}

/// Images whose tag may move are always asked for.
fn pull_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or(image);
    let moves = !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    if moves { "Always" } else { "IfNotPresent" }
}

/// Fills the defaults of a volume.
pub(super) fn default_volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|fields| fields.keys().any(|name| name != "name"));
    if !has_source {
        volume["emptyDir"] = json!({});
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        set(volume.get_mut(source), "defaultMode", || json!(420));
    }
    set(volume.get_mut("hostPath"), "type", || json!(""));
    for item in items(
        volume
            .get_mut("downwardAPI")
            .and_then(|source| source.get_mut("items")),
    ) {
        set(item.get_mut("fieldRef"), "apiVersion", || json!("v1"));
    }
    for source in items(
        volume
            .get_mut("projected")
            .and_then(|projected| projected.get_mut("sources")),
    ) {
        set(
            source.get_mut("serviceAccountToken"),
            "expirationSeconds",
            || json!(3600),
        );
        for item in items(
            source
                .get_mut("downwardAPI")
                .and_then(|source| source.get_mut("items")),
        ) {
            set(item.get_mut("fieldRef"), "apiVersion", || json!("v1"));
        }
    }
    let claim = volume
        .get_mut("ephemeral")
        .and_then(|source| source.get_mut("volumeClaimTemplate"));
    super::storage::default_claim(claim.and_then(|claim| claim.get_mut("spec")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_tags_are_always_pulled() {
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("host:5000/nginx@sha256:00", "IfNotPresent"),
            ("builtin://qd", "Always"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }
}
