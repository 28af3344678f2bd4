//! What an Agent names: Routes, Workspaces, Secrets; and the key that it owns.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::{
    Agent, Workspace,
    names::{KEY_FIELD, KEY_HASH_FIELD, TOKEN_FIELD, WORKSPACE_LABEL},
};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use protocol::{
    key::{KEY_ENTROPY_BYTES, format_key, hash_key},
    secret::SecretString,
};

use crate::{
    caches::Caches,
    executor::{ExecuteError, Executor},
    model::Secrets,
    pods,
    queue::Key,
    snapshots::Snapshots,
    workspace,
};

/// What there is around an Agent.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Patterns of the Routes of all namespaces that are not refused.
    pub(super) patterns: BTreeSet<String>,
    /// Patterns of the Routes of this namespace, by the Route's name.
    pub(super) routes: BTreeMap<String, Vec<String>>,
    /// The Workspaces that tools name; none for those that do not exist.
    pub(super) workspaces: BTreeMap<String, Option<FoundWorkspace>>,
    /// The Secrets that headers name.
    pub(super) secrets: Secrets,
    /// The Secret with the agent's key.
    pub(super) key_secret: Option<Arc<Secret>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FoundWorkspace {
    /// The gate's base URL: where it is, or where it was last.
    pub(super) url: Option<String>,
    pub(super) token: Option<SecretString>,
    /// Why it cannot be used now.
    pub(super) trouble: Option<String>,
}

pub(super) fn dereference(agent: &Agent, caches: &Caches, snapshots: &Snapshots) -> World {
    let namespace = agent.namespace().unwrap_or_default();
    let workspaces = agent
        .spec
        .tools
        .iter()
        .filter_map(|tool| tool.workspace.as_ref())
        .map(|tool| tool.workspace.clone());
    let headers = agent
        .spec
        .tools
        .iter()
        .filter_map(|tool| tool.mcp.as_ref())
        .flat_map(|mcp| &mcp.headers_from);
    let secrets = headers.map(|header| header.secret_key_ref.name.clone());
    let routes = caches.routes.state();
    let local = routes
        .iter()
        .filter(|route| route.namespace().as_deref() == Some(&*namespace));
    World {
        patterns: routes
            .iter()
            .flat_map(|route| route.spec.r#match.models.clone())
            .collect(),
        routes: local
            .map(|route| (route.name_any(), route.spec.r#match.models.clone()))
            .collect(),
        workspaces: workspaces
            .map(|name| {
                (
                    name.clone(),
                    workspace(caches, snapshots, &namespace, &name),
                )
            })
            .collect(),
        secrets: secrets
            .map(|name| (name.clone(), caches.secret_data(&namespace, &name)))
            .collect(),
        key_secret: Caches::get(
            &caches.secrets,
            &namespace,
            &key_secret_name(&agent.name_any()),
        ),
    }
}

fn workspace(
    caches: &Caches,
    snapshots: &Snapshots,
    namespace: &str,
    name: &str,
) -> Option<FoundWorkspace> {
    let found: Arc<Workspace> = Caches::get(&caches.workspaces, namespace, name)?;
    let pods = caches.pods_with(namespace, WORKSPACE_LABEL, name);
    let pod = pods.iter().find(|pod| !pods::is_going(pod));
    let now = pod
        .and_then(|pod| pods::address(pod))
        .map(workspace::gate_url);
    let data = caches.secret_data(namespace, &workspace::token_secret_name(name));
    let token = data
        .and_then(|data| data.get(TOKEN_FIELD).cloned())
        .filter(|token| !token.is_empty());
    let trouble = if !found.spec.running {
        Some("is stopped; set spec.running to true".to_owned())
    } else if pod.is_some_and(|pod| pods::is_ready(pod)) {
        None
    } else {
        Some(
            pod.and_then(|pod| pods::trouble(pod))
                .unwrap_or_else(|| "does not run yet".to_owned()),
        )
    };
    Some(FoundWorkspace {
        url: snapshots.remember_address(&Key::new(namespace, name), now),
        token: token.map(SecretString::new),
        trouble,
    })
}

/// The name of the Secret with an agent's key.
pub(super) fn key_secret_name(agent: &str) -> String {
    format!("{agent}-agent-key")
}

/// The key in a Secret, if it is whole.
pub(super) fn key_in(secret: &Secret) -> Option<SecretString> {
    let data = secret.data.as_ref()?;
    let text = |field: &str| Some(String::from_utf8_lossy(&data.get(field)?.0).into_owned());
    let key = text(KEY_FIELD)?;
    (text(KEY_HASH_FIELD)? == hash_key(&key)).then(|| SecretString::new(key))
}

/// The agent's key: the one it has, or a new one. The cache may lag, so the API server is asked before one is minted.
pub(super) async fn key_material(
    agent: &Agent,
    world: &World,
    executor: &Executor,
) -> Result<SecretString, ExecuteError> {
    if let Some(key) = world.key_secret.as_deref().and_then(key_in) {
        return Ok(key);
    }
    let namespace = agent.namespace().unwrap_or_default();
    let live: Option<Secret> = executor
        .live(&namespace, &key_secret_name(&agent.name_any()))
        .await?;
    let known = live.as_ref().and_then(key_in);
    Ok(known.unwrap_or_else(|| {
        SecretString::new(format_key(rand::random::<[u8; KEY_ENTROPY_BYTES]>()))
    }))
}
