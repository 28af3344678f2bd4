//! What a Model wants, checked: beyond what the schema can say.

use std::collections::BTreeMap;

use crds::{
    Model,
    condition::Reason,
    model::{EngineKind, Source},
    reference::SecretKeyRef,
    resources::{Resources, Volume},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use protocol::secret::SecretString;
use thiserror::Error;

use crate::{executor::owned_by, queue::Key};

/// The port that engines listen on.
pub(crate) const ENGINE_PORT: u16 = 8000;

/// The data of the Secrets that an object names; none for those that do not exist.
pub(crate) type Secrets = BTreeMap<String, Option<BTreeMap<String, String>>>;

/// Why a Model cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidModel {
    #[error("spec.source is missing; a Native engine needs weights")]
    NoSource,
    #[error("spec.engine.external is missing; an External engine needs a provider")]
    NoProvider,
    #[error(transparent)]
    Credential(#[from] BadCredential),
}

/// Why a credential cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BadCredential {
    #[error("the Secret `{name}` that {path} names does not exist in this namespace")]
    NoSecret { path: String, name: String },
    #[error("the Secret `{name}` that {path} names has no key `{key}`")]
    NoKey {
        path: String,
        name: String,
        key: String,
    },
}

impl BadCredential {
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::NoSecret { .. } => Reason::RefNotFound,
            Self::NoKey { .. } => Reason::SecretKeyMissing,
        }
    }
}

/// A Model that can be served.
#[derive(Debug, Clone)]
pub(crate) struct ValidModel {
    pub(crate) key: Key,
    pub(crate) owner: OwnerReference,
    pub(crate) served_name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) engine: ValidEngine,
}

/// Who serves it.
#[derive(Debug, Clone)]
pub(crate) enum ValidEngine {
    Native(Box<NativeEngine>),
    External {
        base_url: String,
        model: String,
        credential: Option<SecretString>,
    },
}

/// Our engine in Pods.
#[derive(Debug, Clone)]
pub(crate) struct NativeEngine {
    pub(crate) source: Source,
    pub(crate) replicas: i32,
    pub(crate) context_length: Option<u32>,
    pub(crate) max_concurrent_sequences: Option<u32>,
    pub(crate) resources: Option<Resources>,
    pub(crate) cache: Volume,
}

/// Checks a Model.
pub(crate) fn validate(model: &Model, secrets: &Secrets) -> Result<ValidModel, InvalidModel> {
    let key = Key::of(model);
    let spec = &model.spec;
    let served_name = spec.served_name.clone().unwrap_or_else(|| key.name.clone());
    let engine = match spec.engine.kind {
        EngineKind::Native => ValidEngine::Native(Box::new(NativeEngine {
            source: spec.source.clone().ok_or(InvalidModel::NoSource)?,
            replicas: spec.replicas,
            context_length: spec.context_length,
            max_concurrent_sequences: spec.max_concurrent_sequences,
            resources: spec.resources.clone(),
            cache: spec.cache.clone(),
        })),
        EngineKind::External => {
            let external = spec
                .engine
                .external
                .as_ref()
                .ok_or(InvalidModel::NoProvider)?;
            let path = "spec.engine.external.credentialsRef";
            let reference = external.credentials_ref.as_ref();
            ValidEngine::External {
                base_url: external.base_url.trim_end_matches('/').to_owned(),
                model: external
                    .model
                    .clone()
                    .unwrap_or_else(|| served_name.clone()),
                credential: reference
                    .map(|reference| credential(reference, path, secrets))
                    .transpose()?,
            }
        }
    };
    Ok(ValidModel {
        owner: owned_by(model),
        key,
        served_name,
        aliases: spec.aliases.clone(),
        engine,
    })
}

/// The credential that a reference names.
pub(crate) fn credential(
    reference: &SecretKeyRef,
    path: &str,
    secrets: &Secrets,
) -> Result<SecretString, BadCredential> {
    let SecretKeyRef { name, key } = reference;
    let Some(data) = secrets.get(name).and_then(Option::as_ref) else {
        return Err(BadCredential::NoSecret {
            path: path.to_owned(),
            name: name.clone(),
        });
    };
    match data
        .get(key)
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
    {
        Some(text) => Ok(SecretString::new(text.to_owned())),
        None => Err(BadCredential::NoKey {
            path: path.to_owned(),
            name: name.clone(),
            key: key.clone(),
        }),
    }
}
