//! Volume claim controller: gives each claim a directory of the data folder as its volume, and removes it again.
//!
//! Every storage class but the empty one is served so. A directory lives as long as its claim and as any Pod that
//! uses the claim.

mod plan;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client, ResourceExt, api::PropagationPolicy};
use serde_json::json;
use tracing::info;

use self::plan::{Binding, Fate, bind, bound_claim, bound_volume, fate, with_phase};
pub(crate) use self::plan::{claim_of, claims_of};
use crate::{
    api::{
        Attempt, Next, ReconcileError, api_beside, delete_params, is_already_exists, merge,
        post_params, replace_status,
    },
    cache::{Cache, Key},
    journal::Journal,
    worker::Reconcile,
};

/// What is reconciled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum VolumeKey {
    /// A claim, by namespace and name.
    Claim(Key),
    /// A volume, by name.
    Volume(String),
}

/// Binds claims to directories.
pub(crate) struct VolumeClaimController {
    /// The API server.
    pub(crate) client: Client,
    /// All claims.
    pub(crate) claims: Arc<Cache<PersistentVolumeClaim>>,
    /// All volumes.
    pub(crate) volumes: Arc<Cache<PersistentVolume>>,
    /// All Pods.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// The folder of the directories.
    pub(crate) volumes_dir: PathBuf,
    /// Where it tells what it did.
    pub(crate) journal: Journal,
}

impl Reconcile for VolumeClaimController {
    type Key = VolumeKey;
    const NAME: &'static str = "volume-claim";

    async fn reconcile(&self, key: &VolumeKey) -> Next {
        match key {
            VolumeKey::Claim(key) => {
                if let Some(claim) = self.claims.get(key) {
                    self.reconcile_claim(&claim).await?;
                }
            }
            VolumeKey::Volume(name) => {
                if let Some(volume) = self.volumes.get(&Key::new("", name)) {
                    self.reconcile_volume(&volume).await?;
                }
            }
        }
        Ok(None)
    }
}

impl VolumeClaimController {
    async fn reconcile_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), ReconcileError> {
        let volumes = self.volumes.filter(|_| true);
        let api: Api<PersistentVolumeClaim> = api_beside(&self.client, claim);
        match bind(claim, &volumes, &self.volumes_dir) {
            Binding::Nothing => Ok(()),
            Binding::Provision(volume) => {
                let path = plan::path_of(&volume).unwrap_or_default();
                create_directory(Path::new(&path))
                    .map_err(|source| file_error("create a volume's directory", source))?;
                let created = Api::<PersistentVolume>::all(self.client.clone())
                    .create(&post_params(), &volume)
                    .await;
                match created {
                    Err(error) if is_already_exists(&error) => {}
                    created => {
                        created.attempt("create a volume")?;
                        info!(claim = ?Key::of(claim), path, "volume created");
                        let message =
                            format!("Successfully provisioned volume {}", volume.name_any());
                        self.journal
                            .note(claim, "ProvisioningSucceeded", message)
                            .await;
                    }
                }
                // The watch shows the volume, which brings us back here to bind it.
                Ok(())
            }
            Binding::Name(volume) => {
                let patch = json!({
                    "metadata": {"annotations": {plan::BIND_COMPLETED: "yes"}},
                    "spec": {"volumeName": volume},
                });
                merge(&api, claim, patch, "bind a claim").await.map(|_| ())
            }
            Binding::Status(volume) => match bound_claim(claim, &volume) {
                Some(changed) => replace_status(&api, &changed, "write a claim's status").await,
                None => Ok(()),
            },
        }
    }

    async fn reconcile_volume(&self, volume: &PersistentVolume) -> Result<(), ReconcileError> {
        let Some(key) = claim_of(volume) else {
            return Ok(());
        };
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let claim = self.claims.get(&key);
        let attempt = "write a volume's status";
        match fate(
            volume,
            claim.as_deref(),
            &self.pods.in_namespace(&key.namespace),
        ) {
            Fate::Bound => match bound_volume(volume) {
                Some(changed) => replace_status(&api, &changed, attempt).await,
                None => Ok(()),
            },
            Fate::InUse | Fate::Foreign => Ok(()),
            Fate::Retained => match with_phase(volume, "Released") {
                Some(changed) => replace_status(&api, &changed, attempt).await,
                None => Ok(()),
            },
            Fate::Reclaim => self.reclaim(&api, volume).await,
        }
    }

    async fn reclaim(
        &self,
        api: &Api<PersistentVolume>,
        volume: &PersistentVolume,
    ) -> Result<(), ReconcileError> {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let path = plan::path_of(volume).map(PathBuf::from);
        // Only what was created here is removed, whatever the object says by now.
        if let Some(path) = path.filter(|path| path.parent() == Some(self.volumes_dir.as_path())) {
            let shown = path.display().to_string();
            let removed = tokio::task::spawn_blocking(move || remove_directory(&path)).await;
            removed
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(|source| file_error("remove a volume's directory", source))?;
            info!(volume = name, path = shown, "volume's directory removed");
        }
        let params = delete_params(volume.metadata.uid.clone(), PropagationPolicy::Background);
        api.delete(name, &params)
            .await
            .attempt_unless_gone("delete a volume")?;
        Ok(())
    }
}

fn file_error(attempt: &'static str, source: io::Error) -> ReconcileError {
    ReconcileError::File { attempt, source }
}

/// Creates the directory, writable by any user of the Pods that get it; the data folder above keeps others out.
fn create_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
