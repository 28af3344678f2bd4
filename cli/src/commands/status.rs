//! `qd status`: the stack's resources and whether they are ready.

use std::process::ExitCode;

use anyhow::{Context, Result};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::{DynamicObject, GroupVersionKind},
};
use serde_json::json;

use crate::{
    client::{Cluster, resolve, wait::standing},
    global::Global,
    output::{self, Format},
};

const KINDS: &[&str] = &["Model", "Route", "Agent", "WorkspaceTemplate", "Workspace"];

/// Lists the resources of all namespaces; ends non-zero if one is not ready.
pub(crate) async fn run(global: &Global) -> Result<ExitCode> {
    let cluster = global.cluster().await?;
    let resources = list(&cluster).await?;
    let all_ready = resources
        .iter()
        .all(|(_, object)| standing(object).is_ready);
    match global.output {
        Format::Text => print(&cluster, &resources).await,
        Format::Json => output::print_json(
            &resources
                .iter()
                .map(|(_, object)| describe(object))
                .collect::<Vec<_>>(),
        ),
    }
    Ok(if all_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn list(cluster: &Cluster) -> Result<Vec<(&'static str, DynamicObject)>> {
    let discovery = cluster.discover().await?;
    let mut resources = Vec::new();
    for kind in KINDS {
        let name = GroupVersionKind::gvk("quarterdeck.dev", "v1alpha1", kind);
        let (resource, _) =
            resolve(&discovery, &name).context("is Quarterdeck installed on this cluster?")?;
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
        let found = api
            .list(&ListParams::default())
            .await
            .with_context(|| format!("listing the {kind}s"))?;
        resources.extend(found.items.into_iter().map(|object| (*kind, object)));
    }
    Ok(resources)
}

async fn print(cluster: &Cluster, resources: &[(&str, DynamicObject)]) {
    for (name, service) in [
        ("gateway", "quarterdeck-gateway"),
        ("agents", "quarterdeck-agents"),
    ] {
        let url = cluster.service_url(service).await.map_or_else(
            |error| format!("not reachable: {error:#}"),
            |url| format!("{url}/v1"),
        );
        output::say(format_args!("{name:8} {url}"));
    }
    let rows: Vec<Vec<String>> = resources
        .iter()
        .map(|(kind, object)| {
            let standing = standing(object);
            let ready = if standing.is_ready { "True" } else { "False" };
            let name = format!("{}/{}", kind.to_lowercase(), object.name_any());
            vec![
                object.namespace().unwrap_or_default(),
                name,
                ready.to_owned(),
                standing.reason,
                standing.message,
            ]
        })
        .collect();
    if rows.is_empty() {
        output::say(
            "there are no resources yet\nhint: `qd apply -f examples/quickstart` applies the example",
        );
        return;
    }
    output::print_table(&["NAMESPACE", "NAME", "READY", "REASON", "MESSAGE"], &rows);
}

fn describe(object: &DynamicObject) -> serde_json::Value {
    let standing = standing(object);
    json!({
        "kind": object.types.as_ref().map(|types| &types.kind),
        "namespace": object.namespace(),
        "name": object.name_any(),
        "ready": standing.is_ready,
        "reason": standing.reason,
        "message": standing.message,
    })
}
