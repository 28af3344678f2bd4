//! What a Model wants, checked: beyond what the schema can say.

use std::collections::BTreeMap;

use crds::{
    Model,
    condition::Reason,
    model::{Adapter, EngineKind, Native, Quantization, Source},
    reference::SecretKeyRef,
    resources::{Resources, Volume},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use protocol::{secret::SecretString, snapshot::content_hash};
use thiserror::Error;

use super::{
    external::{ExternalEngine, external},
    scaling::ValidScaling,
};
use crate::{executor::owned_by, queue::Key};

/// The key of a Secret with docker's config.json.
pub(crate) const DOCKER_CONFIG: &str = ".dockerconfigjson";
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
    #[error("spec.engine.external.{0} is missing; it says where the provider answers")]
    NoPlace(&'static str),
    #[error(
        "spec.engine.external.baseURL is missing; neither the provider nor the vendor has one of its own for this API"
    )]
    NoAddress,
    #[error(
        "spec.engine.external.baseURL is `{0}`; no request may go to metadata services and link-local addresses"
    )]
    Address(String),
    #[error(
        "spec.engine.external.vendor is `{0}`, which is not known; write its address as baseURL"
    )]
    Vendor(String),
    #[error(
        "spec.scaling.idle is `{0}`; write a duration of at least 10s and at most 168h, as 10m"
    )]
    Idle(String),
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
    #[error(
        "the key `{key}` of the Secret `{name}` is not the key file of a Google service account, nor the credential file of a person"
    )]
    Malformed { name: String, key: String },
}

impl BadCredential {
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::NoSecret { .. } => Reason::RefNotFound,
            Self::NoKey { .. } | Self::Malformed { .. } => Reason::SecretKeyMissing,
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
    External(Box<ExternalEngine>),
}

/// Our engine in Pods.
#[derive(Debug, Clone)]
pub(crate) struct NativeEngine {
    pub(crate) source: Source,
    /// The hash of the credentials for the source, so that engines start anew with other ones.
    pub(crate) credentials: Option<String>,
    pub(crate) quantization: Option<Quantization>,
    pub(crate) adapters: Vec<Adapter>,
    pub(crate) native: Native,
    /// How many there are; all of them while requests come.
    pub(crate) replicas: i32,
    /// How many there are while none comes.
    pub(crate) scaling: Option<ValidScaling>,
    pub(crate) context_length: Option<u32>,
    pub(crate) max_concurrent_sequences: Option<u32>,
    pub(crate) resources: Option<Resources>,
    pub(crate) cache: Volume,
}

impl ValidModel {
    /// Gives it so many engines for now.
    pub(super) fn scale(&mut self, replicas: i32) {
        if let ValidEngine::Native(engine) = &mut self.engine {
            engine.replicas = replicas;
        }
    }
}

/// Checks a Model.
pub(crate) fn validate(model: &Model, secrets: &Secrets) -> Result<ValidModel, InvalidModel> {
    let key = Key::of(model);
    let spec = &model.spec;
    let served_name = spec.served_name.clone().unwrap_or_else(|| key.name.clone());
    let engine = match spec.engine.kind {
        EngineKind::Native => ValidEngine::Native(Box::new(native(model, secrets)?)),
        EngineKind::External => {
            let wanted = spec
                .engine
                .external
                .as_ref()
                .ok_or(InvalidModel::NoProvider)?;
            ValidEngine::External(Box::new(external(wanted, &served_name, secrets)?))
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

fn native(model: &Model, secrets: &Secrets) -> Result<NativeEngine, InvalidModel> {
    let spec = &model.spec;
    let source = spec.source.clone().ok_or(InvalidModel::NoSource)?;
    Ok(NativeEngine {
        credentials: source_credentials(&source, secrets)?,
        source,
        quantization: spec.quantization.clone(),
        adapters: spec.adapters.clone(),
        native: spec.engine.native.clone().unwrap_or_default(),
        replicas: spec.replicas,
        scaling: ValidScaling::of(model)?,
        context_length: spec.context_length,
        max_concurrent_sequences: spec.max_concurrent_sequences,
        resources: spec.resources.clone(),
        cache: spec.cache.clone(),
    })
}

/// The keys of a source's Secret: those it must have, and those it may have.
pub(crate) fn credential_keys(uri: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match uri.split_once("://") {
        Some(("hf", _)) => (&["HF_TOKEN"], &[]),
        Some(("s3", _)) => (
            &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            &["AWS_SESSION_TOKEN"],
        ),
        Some(("oci", _)) => (&[DOCKER_CONFIG], &[]),
        _ => (&[], &[]),
    }
}

/// Checks that a source's Secret has its keys, and returns a hash of what they hold.
fn source_credentials(source: &Source, secrets: &Secrets) -> Result<Option<String>, BadCredential> {
    let Some(reference) = &source.secret_ref else {
        return Ok(None);
    };
    let (needed, optional) = credential_keys(&source.uri);
    let mut held: Vec<(&str, String)> = Vec::new();
    for key in needed {
        let reference = SecretKeyRef {
            name: reference.name.clone(),
            key: (*key).to_owned(),
        };
        let found = credential(&reference, "spec.source.secretRef", secrets)?;
        held.push((*key, found.expose().to_owned()));
    }
    let data = secrets.get(&reference.name).and_then(Option::as_ref);
    for key in optional {
        let found = data.and_then(|data| data.get(*key));
        held.extend(found.map(|text| (*key, text.clone())));
    }
    Ok(Some(content_hash(&held)))
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
