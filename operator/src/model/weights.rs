//! How an engine's Pod gets to its weights: the volume that keeps them, and what their source wants to know.
//!
//! Credentials reach the engine in its environment or in a file, never in its arguments, which everybody can read.

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, KeyToPath, PersistentVolumeClaimVolumeSource, SecretKeySelector,
    SecretVolumeSource, Volume, VolumeMount,
};

use super::{
    build::{claim_name, pod_ip},
    validate::{DOCKER_CONFIG, NativeEngine, ValidModel, credential_keys},
};

/// Where an engine keeps fetched weights.
pub(super) const WEIGHTS_PATH: &str = "/var/lib/quarterdeck/weights";
/// Where an engine finds the users of registries.
const REGISTRY_PATH: &str = "/etc/quarterdeck/registry";
const REGISTRY_FILE: &str = "config.json";

/// The Secret with a registry's users, if the source is in one.
fn registry_secret(engine: &NativeEngine) -> Option<&str> {
    let (needed, _) = credential_keys(&engine.source.uri);
    let reference = engine.source.secret_ref.as_ref()?;
    needed
        .contains(&DOCKER_CONFIG)
        .then_some(reference.name.as_str())
}

/// The engine's environment.
pub(super) fn environment(engine: &NativeEngine) -> Vec<EnvVar> {
    let mut environment = vec![pod_ip()];
    let source = &engine.source;
    let mut add = |name: &str, value: String| {
        environment.push(EnvVar {
            name: name.to_owned(),
            value: Some(value),
            value_from: None,
        });
    };
    if let Some(endpoint) = &source.endpoint {
        let name = if source.uri.starts_with("s3://") {
            "AWS_ENDPOINT_URL"
        } else {
            "HF_ENDPOINT"
        };
        add(name, endpoint.clone());
    }
    if let Some(region) = &source.region {
        add("AWS_REGION", region.clone());
    }
    if registry_secret(engine).is_some() {
        add(
            "REGISTRY_AUTH_FILE",
            format!("{REGISTRY_PATH}/{REGISTRY_FILE}"),
        );
        return environment;
    }
    if let Some(reference) = &source.secret_ref {
        let (needed, optional) = credential_keys(&source.uri);
        let needed = needed
            .iter()
            .map(|key| from_secret(&reference.name, key, false));
        environment.extend(needed);
        let optional = optional
            .iter()
            .map(|key| from_secret(&reference.name, key, true));
        environment.extend(optional);
    }
    environment
}

/// A variable out of a Secret's key of the same name.
fn from_secret(secret: &str, key: &str, is_optional: bool) -> EnvVar {
    EnvVar {
        name: key.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: key.to_owned(),
                optional: is_optional.then_some(true),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// What the engine sees of the volumes.
pub(super) fn mounts(engine: &NativeEngine) -> Vec<VolumeMount> {
    let mut mounts = vec![VolumeMount {
        name: "weights".to_owned(),
        mount_path: WEIGHTS_PATH.to_owned(),
        ..VolumeMount::default()
    }];
    if registry_secret(engine).is_some() {
        mounts.push(VolumeMount {
            name: "registry".to_owned(),
            mount_path: REGISTRY_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    mounts
}

/// The Pod's volumes.
pub(super) fn volumes(model: &ValidModel, engine: &NativeEngine) -> Vec<Volume> {
    let mut volumes = vec![Volume {
        name: "weights".to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(&model.key.name),
            read_only: None,
        }),
        ..Volume::default()
    }];
    if let Some(secret) = registry_secret(engine) {
        volumes.push(Volume {
            name: "registry".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.to_owned()),
                items: Some(vec![KeyToPath {
                    key: DOCKER_CONFIG.to_owned(),
                    path: REGISTRY_FILE.to_owned(),
                    mode: None,
                    user: None,
                }]),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    volumes
}
