//! The Secret with an Agent's key, and its entry in the snapshot. Cannot fail.

use std::collections::BTreeMap;

use crds::{
    Agent,
    names::{AGENT_LABEL, API_KEY_LABEL, KEY_FIELD, KEY_HASH_FIELD, MANAGED_BY, MANAGED_BY_LABEL},
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;
use protocol::{
    agent::{Definition, Tool, ToolSource},
    key::hash_key,
    secret::SecretString,
    snapshot::{AgentEntry, GatewayAccess},
};

use super::{
    dereference::key_secret_name,
    validate::{ValidAgent, ValidTool},
};
use crate::{executor::owned_by, queue::Key};

/// The Secret with the agent's key.
pub(super) fn key_secret(agent: &Agent, key: &SecretString) -> Secret {
    let Key { namespace, name } = Key::of(agent);
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Secret {
        metadata: ObjectMeta {
            name: Some(key_secret_name(&name)),
            namespace: Some(namespace),
            labels: Some(BTreeMap::from([
                label(MANAGED_BY_LABEL, MANAGED_BY),
                label(API_KEY_LABEL, "true"),
                label(AGENT_LABEL, &name),
            ])),
            owner_references: Some(vec![owned_by(agent)]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([
            (KEY_FIELD.to_owned(), bytes(key.expose())),
            (KEY_HASH_FIELD.to_owned(), bytes(&hash_key(key.expose()))),
        ])),
        ..Secret::default()
    }
}

/// The entry; none while something that it names does not exist, or the key is not minted.
pub(super) fn entry(agent: &Agent, valid: &ValidAgent, gateway_url: &str) -> Option<AgentEntry> {
    let key = valid.key.clone().filter(|_| valid.unresolved.is_empty())?;
    let Key { namespace, name } = Key::of(agent);
    let is_waiting = valid
        .tools
        .iter()
        .any(|tool| matches!(tool, ValidTool::Waiting { .. }));
    Some(AgentEntry {
        generation: agent.metadata.generation.unwrap_or(0),
        // A tool without an address fails each call; new runs wait for the workspace instead.
        suspended: agent.spec.suspend || is_waiting,
        definition: Definition {
            instructions: agent.spec.instructions.clone().unwrap_or_default(),
            model: valid.model.clone(),
            tools: valid
                .tools
                .iter()
                .map(|tool| self::tool(tool, &namespace))
                .collect(),
            program: valid.program.clone(),
            limits: valid.limits.clone(),
        },
        gateway: GatewayAccess {
            url: gateway_url.to_owned(),
            key,
        },
        keys: Vec::new(),
        namespace,
        name,
    })
}

fn tool(tool: &ValidTool, namespace: &str) -> Tool {
    match tool {
        ValidTool::Known { name, source } => Tool {
            name: name.clone(),
            source: source.clone(),
        },
        // A name that never resolves: runs under way fail this call and try again.
        ValidTool::Waiting {
            name,
            workspace,
            commands,
        } => Tool {
            name: name.clone(),
            source: ToolSource::Workspace {
                url: format!("http://{workspace}.{namespace}.workspace.invalid:7681"),
                token: SecretString::new(String::new()),
                commands: commands.clone(),
            },
        },
    }
}
