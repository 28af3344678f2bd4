//! Makes the volumes of one Pod and keeps them current.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource,
    HostPathVolumeSource, KeyToPath, ObjectFieldSelector, PersistentVolumeClaim, Pod,
    ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use kube::api::Api;

use super::payload::{DEFAULT_MODE, Materials, PayloadError, mode_of};
use super::token::{self, Token};
use super::tree::{self, Payload, make_folder};
use super::{Folders, mount_memory};
use crate::caches::{Caches, NamespaceSources};
use crate::fields::PodFacts;
use crate::pod::wanted::PodId;
use crate::quantity::units;

/// Where Kubernetes clients look for their credentials.
pub(crate) const ACCOUNT_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ACCOUNT_VOLUME: &str = "quarterdeck-api-access";
const TOKEN_SECONDS: i64 = 3607;

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Files {
        volume: String,
        source: PayloadError,
    },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    Refused { volume: String, message: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : cannot write its files")]
    Disk { volume: String, source: io::Error },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : failed to fetch token: {source}")]
    Token { volume: String, source: kube::Error },
}

/// The volumes of one Pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volumes {
    by_name: BTreeMap<String, PathBuf>,
    tokens: BTreeMap<(String, String), Token>,
}

impl Volumes {
    pub(crate) fn folder(&self, name: &str) -> Option<&PathBuf> {
        self.by_name.get(name)
    }

    /// When the first token must be renewed.
    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        self.tokens.values().map(|token| token.renew_at).min()
    }
}

/// What making volumes needs.
#[derive(Clone)]
pub(crate) struct VolumeMaker {
    pub(crate) client: kube::Client,
    pub(crate) caches: Caches,
    pub(crate) folders: Folders,
    pub(crate) capacity: Arc<BTreeMap<String, String>>,
}

impl VolumeMaker {
    /// Makes every volume of the Pod, or brings those it made before up to date.
    pub(crate) async fn prepare(
        &self,
        facts: PodFacts<'_>,
        mut volumes: Volumes,
    ) -> Result<Volumes, VolumeError> {
        let id = PodId::of(facts.pod);
        let folder = self.folders.pod(&id.uid).join("volumes");
        for volume in wanted_volumes(facts.pod) {
            let path = self
                .volume(
                    &id,
                    &folder.join(&volume.name),
                    &volume,
                    facts,
                    &mut volumes,
                )
                .await?;
            volumes.by_name.insert(volume.name, path);
        }
        Ok(volumes)
    }

    async fn volume(
        &self,
        id: &PodId,
        folder: &Path,
        volume: &Volume,
        facts: PodFacts<'_>,
        volumes: &mut Volumes,
    ) -> Result<PathBuf, VolumeError> {
        let disk = |source| VolumeError::Disk {
            volume: volume.name.clone(),
            source,
        };
        if let Some(claim) = &volume.persistent_volume_claim {
            return self.claimed(id, &volume.name, &claim.claim_name).await;
        }
        if let Some(host) = &volume.host_path {
            return host_path(&volume.name, host);
        }
        if let Some(empty) = &volume.empty_dir {
            return empty_dir(folder, empty).map_err(disk);
        }
        if let Some(projected) = &volume.projected {
            self.renew_tokens(id, &volume.name, projected, facts.pod, volumes)
                .await?;
        }
        let payload = self.payload(id, volume, facts, volumes)?;
        let folder = make_folder(folder, 0o755).map_err(disk)?;
        tree::write(&folder, &payload).map_err(disk)?;
        Ok(folder)
    }

    fn payload(
        &self,
        id: &PodId,
        volume: &Volume,
        facts: PodFacts<'_>,
        volumes: &Volumes,
    ) -> Result<Payload, VolumeError> {
        let of_volume = |((name, path), token): (&(String, String), &Token)| {
            (*name == volume.name).then(|| (path.clone(), token.text.clone()))
        };
        let tokens = volumes.tokens.iter().filter_map(of_volume).collect();
        let sources = NamespaceSources {
            caches: &self.caches,
            namespace: &id.namespace,
        };
        let materials = Materials {
            sources: &sources,
            facts,
            capacity: &self.capacity,
            tokens: &tokens,
        };
        let payload = if let Some(map) = &volume.config_map {
            let optional = map.optional == Some(true);
            materials.config_map(
                &map.name,
                map.items.as_deref(),
                mode_of(map.default_mode),
                optional,
            )
        } else if let Some(secret) = &volume.secret {
            let name = secret.secret_name.clone().unwrap_or_default();
            materials.secret(
                &name,
                secret.items.as_deref(),
                mode_of(secret.default_mode),
                secret.optional == Some(true),
            )
        } else if let Some(downward) = &volume.downward_api {
            materials.downward(
                downward.items.as_deref().unwrap_or_default(),
                mode_of(downward.default_mode),
            )
        } else if let Some(projected) = &volume.projected {
            materials.projected(
                projected.sources.as_deref().unwrap_or_default(),
                mode_of(projected.default_mode),
            )
        } else {
            return Err(VolumeError::Refused {
                volume: volume.name.clone(),
                message: "this node has no such kind of volume (it has configMap, secret, downwardAPI, projected, \
                          emptyDir, hostPath and persistentVolumeClaim)"
                    .to_owned(),
            });
        };
        payload.map_err(|source| VolumeError::Files {
            volume: volume.name.clone(),
            source,
        })
    }

    async fn renew_tokens(
        &self,
        id: &PodId,
        volume: &str,
        projected: &ProjectedVolumeSource,
        pod: &Pod,
        volumes: &mut Volumes,
    ) -> Result<(), VolumeError> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let account = account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned());
        for projection in projected
            .sources
            .iter()
            .flatten()
            .filter_map(|source| source.service_account_token.as_ref())
        {
            let key = (volume.to_owned(), projection.path.clone());
            let is_fresh = volumes
                .tokens
                .get(&key)
                .is_some_and(|token| token.renew_at > Timestamp::now());
            if !is_fresh {
                let token = token::request(&self.client, id, &account, projection).await;
                let token = token.map_err(|source| VolumeError::Token {
                    volume: volume.to_owned(),
                    source,
                })?;
                volumes.tokens.insert(key, token);
            }
        }
        Ok(())
    }

    async fn claimed(&self, id: &PodId, volume: &str, claim: &str) -> Result<PathBuf, VolumeError> {
        let refused = |message: String| VolumeError::Refused {
            volume: volume.to_owned(),
            message,
        };
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &id.namespace);
        let found = claims
            .get_opt(claim)
            .await
            .map_err(|error| refused(error.to_string()))?;
        let found =
            found.ok_or_else(|| refused(format!("persistentvolumeclaim \"{claim}\" not found")))?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err(refused(format!(
                "persistentvolumeclaim \"{claim}\" is being deleted"
            )));
        }
        let path = self
            .folders
            .volumes
            .join(format!("{}-{claim}", id.namespace));
        make_folder(&path, 0o777).map_err(|source| VolumeError::Disk {
            volume: volume.to_owned(),
            source,
        })
    }
}

/// The volumes of a Pod, with the one for its service account where the API server did not add it.
pub(crate) fn wanted_volumes(pod: &Pod) -> Vec<Volume> {
    let mut volumes = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.volumes.clone())
        .unwrap_or_default();
    if needs_account_volume(pod) {
        volumes.push(account_volume());
    }
    volumes
}

/// The mounts of a container, with that of its service account.
pub(crate) fn wanted_mounts(pod: &Pod, own: Option<&[VolumeMount]>) -> Vec<VolumeMount> {
    let mut mounts = own.unwrap_or_default().to_vec();
    if needs_account_volume(pod) && !mounts.iter().any(|mount| mount.mount_path == ACCOUNT_MOUNT) {
        mounts.push(VolumeMount {
            name: ACCOUNT_VOLUME.to_owned(),
            mount_path: ACCOUNT_MOUNT.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    mounts
}

fn needs_account_volume(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let mut mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    spec.automount_service_account_token != Some(false)
        && !mounts.any(|mount| mount.mount_path == ACCOUNT_MOUNT)
}

fn account_volume() -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(TOKEN_SECONDS),
        ..ServiceAccountTokenProjection::default()
    };
    let authority = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![KeyToPath {
            key: "ca.crt".to_owned(),
            path: "ca.crt".to_owned(),
            ..KeyToPath::default()
        }]),
        optional: Some(true),
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: "metadata.namespace".to_owned(),
            api_version: None,
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection {
            service_account_token: Some(token),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            config_map: Some(authority),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection {
                items: Some(vec![namespace]),
            }),
            ..VolumeProjection::default()
        },
    ];
    let mode = i32::try_from(DEFAULT_MODE).ok();
    let projected = ProjectedVolumeSource {
        sources: Some(sources),
        default_mode: mode,
        ..ProjectedVolumeSource::default()
    };
    Volume {
        name: ACCOUNT_VOLUME.to_owned(),
        projected: Some(projected),
        ..Volume::default()
    }
}

fn empty_dir(folder: &Path, empty: &EmptyDirVolumeSource) -> io::Result<PathBuf> {
    let is_new = !folder.exists();
    let path = make_folder(folder, 0o777)?;
    if is_new && empty.medium.as_deref() == Some("Memory") {
        let limit = empty.size_limit.as_ref().and_then(|limit| units(&limit.0));
        if !mount_memory(&path, limit) {
            tracing::debug!(path = %path.display(), "memory volume lies on the disk");
        }
    }
    Ok(path)
}

fn host_path(volume: &str, host: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(&host.path);
    let refused = |message: String| VolumeError::Refused {
        volume: volume.to_owned(),
        message,
    };
    let (may_create, wants_folder, wants_file) = match host.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" => (true, true, false),
        "Directory" => (false, true, false),
        "File" => (false, false, true),
        "FileOrCreate" => {
            if !path.exists() {
                std::fs::write(&path, b"")
                    .map_err(|error| refused(format!("cannot make {}: {error}", path.display())))?;
            }
            (false, false, true)
        }
        _ => return Ok(path),
    };
    if may_create && !path.exists() {
        return make_folder(&path, 0o755)
            .map_err(|error| refused(format!("cannot make {}: {error}", path.display())));
    }
    let fits = (!wants_folder || path.is_dir()) && (!wants_file || path.is_file());
    if fits {
        Ok(path)
    } else {
        Err(refused(format!(
            "hostPath type check failed: {} is not a {}",
            path.display(),
            host.type_.as_deref().unwrap_or_default()
        )))
    }
}
