//! Images from a registry.

use std::path::Path;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use super::ImageError;
use super::store::hex_of;
use crate::explain::explain;

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const READ_LIMIT: Duration = Duration::from_secs(60);
const LAYERS_MAX: usize = 256;

/// A client of registries, anonymous. One on this host may do without TLS, as everywhere.
#[derive(Clone)]
pub(crate) struct Registry {
    client: Client,
    local: Client,
}

impl Registry {
    pub(super) fn new() -> Result<Self, ImageError> {
        let open = |protocol| {
            let config = ClientConfig {
                protocol,
                connect_timeout: Some(CONNECT_LIMIT),
                read_timeout: Some(READ_LIMIT),
                ..ClientConfig::default()
            };
            Client::try_from(config).map_err(|error| ImageError::pull(explain(&error)))
        };
        Ok(Self {
            client: open(ClientProtocol::Https)?,
            local: open(ClientProtocol::Http)?,
        })
    }

    fn client(&self, reference: &Reference) -> &Client {
        let registry = reference.resolve_registry();
        let is_local = registry.starts_with("127.") || registry.starts_with("localhost:");
        if is_local { &self.local } else { &self.client }
    }

    /// Fetches a manifest and those of its blobs that are missing in `blobs`. The client checks each digest.
    pub(super) async fn fetch(
        &self,
        name: &str,
        blobs: &Path,
    ) -> Result<(OciImageManifest, String), ImageError> {
        let reference: Reference = name.parse().map_err(|error| {
            ImageError::new("InvalidImageName", format!("image \"{name}\": {error}"))
        })?;
        let fail = |error: &dyn std::fmt::Display| {
            ImageError::pull(format!("failed to pull image \"{name}\": {error}"))
        };
        let pulled = Box::pin(
            self.client(&reference)
                .pull_image_manifest(&reference, &RegistryAuth::Anonymous),
        )
        .await;
        let (manifest, digest) = pulled.map_err(|error| fail(&explain(&error)))?;
        hex_of(&digest)?;
        if manifest.layers.len() > LAYERS_MAX {
            return Err(fail(&format!("it has more than {LAYERS_MAX} layers")));
        }
        let folder = blobs.join("sha256");
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(|error| fail(&error))?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            Box::pin(self.blob(&reference, blob, &folder))
                .await
                .map_err(|error| fail(&error))?;
        }
        Ok((manifest, digest))
    }

    async fn blob(
        &self,
        reference: &Reference,
        blob: &OciDescriptor,
        folder: &Path,
    ) -> Result<(), String> {
        let hex = hex_of(&blob.digest).map_err(|error| error.message)?;
        let path = folder.join(hex);
        if path.exists() {
            return Ok(());
        }
        let staged = folder.join(format!("{hex}.new"));
        let mut file = tokio::fs::File::create(&staged)
            .await
            .map_err(|error| error.to_string())?;
        self.client(reference)
            .pull_blob(reference, blob, &mut file)
            .await
            .map_err(|error| error.to_string())?;
        file.sync_all().await.map_err(|error| error.to_string())?;
        tokio::fs::rename(&staged, &path)
            .await
            .map_err(|error| error.to_string())
    }
}
