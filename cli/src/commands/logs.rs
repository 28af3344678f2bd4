//! `qd logs`: what the Pods behind a resource print.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use futures::{AsyncReadExt, StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

use crate::{
    client::{Cluster, SYSTEM_NAMESPACE},
    global::Global,
    output,
};

/// Arguments of `qd logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `model/NAME`, `workspace/NAME`, `pod/NAME`, or `operator`, `gateway`, `agents`
    target: String,
    /// Go on with new lines as they come
    #[arg(long, short)]
    follow: bool,
    /// Lines from the end
    #[arg(long, value_name = "LINES")]
    tail: Option<i64>,
    /// The container; all of them if not given
    #[arg(long, short)]
    container: Option<String>,
}

/// Prints the logs.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let cluster = global.cluster().await?;
    let (namespace, pods) = find(&cluster, &args.target, &global.namespace).await?;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let sources: Vec<(String, String)> = pods.iter().flat_map(containers).collect();
    let wanted = |source: &(String, String)| {
        args.container
            .as_ref()
            .is_none_or(|container| *container == source.1)
    };
    let sources: Vec<(String, String)> = sources.into_iter().filter(wanted).collect();
    if sources.is_empty() {
        bail!("there are no containers behind {}", args.target);
    }
    let several = 1 < sources.len();
    let copies = sources.into_iter().map(|(pod, container)| {
        let (api, params) = (api.clone(), params(&args, &container));
        async move {
            let prefix = if several {
                format!("[{pod}/{container}] ")
            } else {
                String::new()
            };
            copy(&api, &pod, &params, &prefix)
                .await
                .with_context(|| format!("reading the logs of {pod}/{container}"))
        }
    });
    let results: Vec<Result<()>> = stream::iter(copies).buffer_unordered(16).collect().await;
    // A container that has not started has no logs; the others' were shown.
    if results.iter().all(Result::is_err) {
        results.into_iter().collect::<Result<Vec<()>>>()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn params(args: &Args, container: &str) -> LogParams {
    LogParams {
        follow: args.follow,
        tail_lines: args.tail,
        container: Some(container.to_owned()),
        ..LogParams::default()
    }
}

async fn find(cluster: &Cluster, target: &str, namespace: &str) -> Result<(String, Vec<Pod>)> {
    let (namespace, selector) = match target.split_once('/') {
        Some(("model", name)) => (namespace, format!("quarterdeck.dev/model={name}")),
        Some(("workspace", name)) => (namespace, format!("quarterdeck.dev/workspace={name}")),
        Some(("pod", name)) => {
            let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
            let pod = pods
                .get(name)
                .await
                .with_context(|| format!("looking for the Pod {name}"))?;
            return Ok((namespace.to_owned(), vec![pod]));
        }
        None if ["operator", "gateway", "agents"].contains(&target) => (
            SYSTEM_NAMESPACE,
            format!("app.kubernetes.io/component={target}"),
        ),
        _ => bail!(
            "`{target}` is none of model/NAME, workspace/NAME, pod/NAME, operator, gateway, agents"
        ),
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let found = pods
        .list(&ListParams::default().labels(&selector))
        .await
        .context("looking for the Pods")?;
    if found.items.is_empty() {
        bail!("there are no Pods behind {target}");
    }
    Ok((namespace.to_owned(), found.items))
}

fn containers(pod: &Pod) -> Vec<(String, String)> {
    let names = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .map(|container| container.name.clone());
    names.map(|container| (pod.name_any(), container)).collect()
}

async fn copy(api: &Api<Pod>, pod: &str, params: &LogParams, prefix: &str) -> Result<()> {
    let mut reader = Box::pin(api.log_stream(pod, params).await?);
    let mut buffer = vec![0; 16 << 10];
    let mut line = Vec::new();
    loop {
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        for piece in buffer[..length].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                output::print_bytes(&[prefix.as_bytes(), &line].concat());
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        output::print_bytes(&[prefix.as_bytes(), &line, b"\n"].concat());
    }
    Ok(())
}
