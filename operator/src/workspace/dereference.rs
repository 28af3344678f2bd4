//! What a Workspace names and owns, as the caches have it.

use std::sync::Arc;

use crds::{
    Workspace, WorkspaceTemplate,
    names::{TOKEN_FIELD, WORKSPACE_LABEL},
};
use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod, Secret},
    networking::v1::NetworkPolicy,
};
use kube::ResourceExt;
use protocol::{key::hex, secret::SecretString};

use super::build::{claim_name, policy_name, token_secret_name};
use crate::{
    caches::Caches,
    executor::{ExecuteError, Executor},
    queue::Key,
};

/// Random bytes of a gate's token.
const TOKEN_ENTROPY_BYTES: usize = 32;

/// What there is of a Workspace.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) template: Option<Arc<WorkspaceTemplate>>,
    pub(super) secret: Option<Arc<Secret>>,
    pub(super) claim: Option<Arc<PersistentVolumeClaim>>,
    pub(super) policy: Option<Arc<NetworkPolicy>>,
    pub(super) pod: Option<Arc<Pod>>,
}

pub(super) fn dereference(workspace: &Workspace, caches: &Caches) -> World {
    let Key { namespace, name } = Key::of(workspace);
    let owner = workspace.uid();
    let is_ours = |pod: &Pod| {
        pod.owner_references()
            .iter()
            .any(|reference| Some(&reference.uid) == owner.as_ref())
    };
    let pods = caches.pods_with(&namespace, WORKSPACE_LABEL, &name);
    World {
        template: Caches::get(
            &caches.templates,
            &namespace,
            &workspace.spec.template_ref.name,
        ),
        secret: Caches::get(&caches.secrets, &namespace, &token_secret_name(&name)),
        claim: Caches::get(&caches.claims, &namespace, &claim_name(&name)),
        policy: Caches::get(&caches.policies, &namespace, &policy_name(&name)),
        pod: pods.into_iter().find(|pod| is_ours(pod)),
    }
}

fn token_in(secret: &Secret) -> Option<SecretString> {
    let bytes = secret.data.as_ref()?.get(TOKEN_FIELD)?;
    let text = String::from_utf8_lossy(&bytes.0).into_owned();
    (text.len() == 2 * TOKEN_ENTROPY_BYTES).then(|| SecretString::new(text))
}

/// The gate's token: the one it has, or a new one. The cache may lag, so the API server is asked before one is minted.
pub(super) async fn token(
    workspace: &Workspace,
    world: &World,
    executor: &Executor,
) -> Result<SecretString, ExecuteError> {
    if let Some(token) = world.secret.as_deref().and_then(token_in) {
        return Ok(token);
    }
    let Key { namespace, name } = Key::of(workspace);
    let live: Option<Secret> = executor.live(&namespace, &token_secret_name(&name)).await?;
    let known = live.as_ref().and_then(token_in);
    Ok(known
        .unwrap_or_else(|| SecretString::new(hex(&rand::random::<[u8; TOKEN_ENTROPY_BYTES]>()))))
}
