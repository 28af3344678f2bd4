//! The files of configMap, secret, downwardAPI and projected volumes, from the objects they come from. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, SecretProjection, VolumeProjection,
};

use super::tree::{FileContent, Payload};
use crate::environment::Sources;
use crate::fields::{PodFacts, field_value, resource_value};

pub(crate) const DEFAULT_MODE: u32 = 0o644;

/// Why a volume's files cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("{kind} \"{name}\" not found")]
    NoSource { kind: &'static str, name: String },
    #[error("references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, key: String },
    #[error("unsupported field {0}")]
    UnsupportedField(String),
}

/// What the files are made of.
pub(crate) struct Materials<'a> {
    pub(crate) sources: &'a dyn Sources,
    pub(crate) facts: PodFacts<'a>,
    pub(crate) capacity: &'a BTreeMap<String, String>,
    /// The bytes of a service account token for an audience, by the path it is projected to.
    pub(crate) tokens: &'a BTreeMap<String, String>,
}

impl Materials<'_> {
    pub(crate) fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: u32,
        optional: bool,
    ) -> Result<Payload, PayloadError> {
        let Some(map) = self.sources.config_map(name) else {
            return missing("configmap", name, optional);
        };
        let text = map
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.into_bytes()));
        let binary = map
            .binary_data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0));
        pick(
            "config",
            text.chain(binary).collect(),
            items,
            mode,
            optional,
        )
    }

    pub(crate) fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: u32,
        optional: bool,
    ) -> Result<Payload, PayloadError> {
        let Some(secret) = self.sources.secret(name) else {
            return missing("secret", name, optional);
        };
        let data = secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect();
        pick("secret", data, items, mode, optional)
    }

    pub(crate) fn downward(
        &self,
        items: &[DownwardAPIVolumeFile],
        mode: u32,
    ) -> Result<Payload, PayloadError> {
        let mut payload = Payload::new();
        for item in items {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => field_value(self.facts, &field.field_path),
                (None, Some(resource)) => {
                    container_of(self.facts.pod, resource.container_name.as_deref())
                        .and_then(|container| resource_value(container, resource, self.capacity))
                }
                (None, None) => None,
            };
            let value = value.ok_or_else(|| PayloadError::UnsupportedField(item.path.clone()))?;
            payload.insert(item.path.clone(), file(value.into_bytes(), item.mode, mode));
        }
        Ok(payload)
    }

    pub(crate) fn projected(
        &self,
        sources: &[VolumeProjection],
        mode: u32,
    ) -> Result<Payload, PayloadError> {
        let mut payload = Payload::new();
        for source in sources {
            if let Some(map) = &source.config_map {
                let optional = map.optional == Some(true);
                payload.extend(self.config_map(&map.name, map.items.as_deref(), mode, optional)?);
            }
            if let Some(SecretProjection {
                name,
                items,
                optional,
            }) = &source.secret
            {
                payload.extend(self.secret(
                    name,
                    items.as_deref(),
                    mode,
                    *optional == Some(true),
                )?);
            }
            if let Some(downward) = &source.downward_api {
                payload.extend(self.downward(downward.items.as_deref().unwrap_or_default(), mode)?);
            }
            if let Some(token) = &source.service_account_token {
                let bytes = self.tokens.get(&token.path).cloned().unwrap_or_default();
                payload.insert(
                    token.path.clone(),
                    FileContent {
                        bytes: bytes.into_bytes(),
                        mode,
                    },
                );
            }
        }
        Ok(payload)
    }
}

/// A volume's default mode.
pub(crate) fn mode_of(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok())
        .unwrap_or(DEFAULT_MODE)
}

fn container_of<'a>(pod: &'a Pod, name: Option<&str>) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let mut containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    containers.find(|container| name.is_none_or(|name| container.name == name))
}

fn pick(
    kind: &'static str,
    data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<Payload, PayloadError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data
            .into_iter()
            .map(|(key, bytes)| (key, FileContent { bytes, mode }))
            .collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                payload.insert(item.path.clone(), file(bytes.clone(), item.mode, mode));
            }
            None if optional => {}
            None => {
                return Err(PayloadError::NoKey {
                    kind,
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(payload)
}

fn file(bytes: Vec<u8>, own_mode: Option<i32>, mode: u32) -> FileContent {
    FileContent {
        bytes,
        mode: own_mode
            .and_then(|mode| u32::try_from(mode).ok())
            .unwrap_or(mode),
    }
}

fn missing(kind: &'static str, name: &str, optional: bool) -> Result<Payload, PayloadError> {
    if optional {
        Ok(Payload::new())
    } else {
        Err(PayloadError::NoSource {
            kind,
            name: name.to_owned(),
        })
    }
}
