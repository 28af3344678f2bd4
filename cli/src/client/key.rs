//! The gateway key of this machine's commands: minted once, only its hash is stored in the cluster.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use protocol::key::{KEY_ENTROPY_BYTES, format_key, hash_key};
use serde_json::json;

use super::{Cluster, apply::FIELD_MANAGER};

/// The Secret's name, in the namespace of the routes.
const SECRET: &str = "qd-cli";
/// How long a stored key may take to reach the planes.
const KNOWN_LIMIT: Duration = Duration::from_secs(30);
/// Between two questions to a plane that does not know the key yet.
const ASK_AGAIN: Duration = Duration::from_millis(50);

impl Cluster {
    /// A plane's base URL and a key that it knows: what `curl` would need.
    pub(crate) async fn plane(
        &self,
        service: &str,
        key: &Path,
        namespace: &str,
    ) -> Result<(String, String)> {
        let url = self.service_url(service).await?;
        let key = self.gateway_key(key, namespace).await?;
        wait_known(&url, &key)
            .await
            .with_context(|| format!("showing the key to {service}"))?;
        Ok((url, key))
    }

    /// The key in `path`, minted if there is none, stored in `namespace`.
    async fn gateway_key(&self, path: &Path, namespace: &str) -> Result<String> {
        let key = match fs::read_to_string(path) {
            Ok(key) => key.trim().to_owned(),
            Err(_) => mint(path)?,
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "labels": {"quarterdeck.dev/api-key": "true"}},
            "stringData": {"hash": hash_key(&key)},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let known = secrets
            .get_opt(SECRET)
            .await
            .context("looking for the key's Secret")?;
        let stored = known.and_then(|secret| Some(secret.data?.get("hash")?.0.clone()));
        if stored.as_deref() != Some(hash_key(&key).as_bytes()) {
            secrets
                .patch(SECRET, &params, &Patch::Apply(&secret))
                .await
                .context("storing the key's hash")?;
        }
        Ok(key)
    }
}

/// A key is known to a plane a moment after its Secret is stored; the list of models tells.
async fn wait_known(url: &str, key: &str) -> Result<()> {
    let client = reqwest::Client::new();
    let asking = async {
        loop {
            let answer = client
                .get(format!("{url}/v1/models"))
                .bearer_auth(key)
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(KNOWN_LIMIT, asking)
        .await
        .with_context(|| format!("it is not known after {KNOWN_LIMIT:?}"))
}

fn mint(path: &Path) -> Result<String> {
    let entropy: [u8; KEY_ENTROPY_BYTES] = rand::random();
    let key = format_key(entropy);
    let attempt = || format!("writing {}", path.display());
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(attempt)?;
    file.write_all(key.as_bytes()).with_context(attempt)?;
    Ok(key)
}
