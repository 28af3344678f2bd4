//! `qd quickstart`: the whole stack at work once, as a newcomer sees it.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use kube::{ResourceExt, core::DynamicObject};
use protocol::runs::{Run, RunStatus};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{chat, run as runs};
use crate::{
    client::{
        Cluster,
        apply::{display, parse},
        wait::Standing,
    },
    global::Global,
    output::{self, Format},
    stack::{Stack, StackConfig},
};

/// What is applied, in the order in which it becomes ready.
const MANIFESTS: &[(&str, &str)] = &[
    (
        "model.yaml",
        include_str!("../../../examples/quickstart/model.yaml"),
    ),
    (
        "route.yaml",
        include_str!("../../../examples/quickstart/route.yaml"),
    ),
    (
        "workspace.yaml",
        include_str!("../../../examples/quickstart/workspace.yaml"),
    ),
    (
        "agent.yaml",
        include_str!("../../../examples/quickstart/agent.yaml"),
    ),
];
const MODEL: &str = "smollm2";
const AGENT: &str = "scribe";
const QUESTION: &str = "What is the capital of France?";
const TOPIC: &str = "the sea";

/// Arguments of `qd quickstart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    stack: StackConfig,
    /// Longest wait for the model, its download included
    #[arg(long, default_value_t = 1800, value_name = "SECONDS")]
    model_timeout: u64,
}

/// Shows the stack at work; ends non-zero if anything is not as it should be.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let shutdown = telemetry::shutdown::on_signals().context("installing the signal handlers")?;
    let data = global.data()?;
    let begin = Instant::now();
    let stack = Stack::start(&args.stack, &data, &shutdown).await?;
    let result = tokio::select! {
        result = show(&stack, global, Duration::from_secs(args.model_timeout), begin) => result,
        () = shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    stack.stop().await?;
    let report = result?;
    if global.output == Format::Json {
        output::print_json(&report);
    }
    output::say(
        "The stack is stopped; `qd up` (or `cargo run --release -- up`) starts it again with everything in place.",
    );
    Ok(ExitCode::SUCCESS)
}

async fn show(
    stack: &Stack,
    global: &Global,
    model_limit: Duration,
    begin: Instant,
) -> Result<Value> {
    stack.wait_ready().await?;
    output::say(format_args!(
        "✓ the stack is ready ({:.1} s)",
        begin.elapsed().as_secs_f64()
    ));
    let cluster = stack.cluster();
    apply_all(cluster, &global.namespace, model_limit, stack.shutdown()).await?;
    let key_file = global.data()?.gateway_key();
    let (gateway, key) = cluster
        .plane("quarterdeck-gateway", &key_file, &global.namespace)
        .await?;
    let (agents, _) = cluster
        .plane("quarterdeck-agents", &key_file, &global.namespace)
        .await?;
    let answer = ask(&gateway, &key).await?;
    let run = run_agent(agents.clone(), key.clone(), &global.namespace).await?;
    if global.output == Format::Text {
        say_next(global, &gateway, &agents, &key)?;
    }
    Ok(json!({
        "gateway": format!("{gateway}/v1"),
        "agents": format!("{agents}/v1"),
        "key": key,
        "chat": {"model": MODEL, "question": QUESTION, "answer": answer},
        "run": run,
    }))
}

async fn apply_all(
    cluster: &Cluster,
    namespace: &str,
    model_limit: Duration,
    shutdown: &CancellationToken,
) -> Result<()> {
    let mut objects = Vec::new();
    for (name, text) in MANIFESTS {
        objects.extend(parse(text).with_context(|| format!("reading {name}"))?);
    }
    let applied = cluster.apply(&objects, namespace).await?;
    for object in &applied {
        output::say(format_args!("✓ {} applied", display(object)));
    }
    for object in applied.iter().filter(|object| has_conditions(object)) {
        let limit = if is_kind(object, "Model") {
            model_limit
        } else {
            Duration::from_secs(60)
        };
        wait(cluster, object, limit, shutdown).await?;
    }
    Ok(())
}

fn is_kind(object: &DynamicObject, kind: &str) -> bool {
    object
        .types
        .as_ref()
        .is_some_and(|types| types.kind == kind)
}

fn has_conditions(object: &DynamicObject) -> bool {
    object
        .types
        .as_ref()
        .is_some_and(|types| types.api_version.starts_with("quarterdeck.dev/"))
}

async fn wait(
    cluster: &Cluster,
    object: &DynamicObject,
    limit: Duration,
    shutdown: &CancellationToken,
) -> Result<()> {
    let name = display(object);
    let mut last = String::new();
    let observe = |object: &DynamicObject, standing: &Standing| {
        if standing.reason.is_empty() {
            return;
        }
        let line = match loading(object) {
            Some(bar) => format!("  {name}: {bar}"),
            None => format!("  {name}: {} {}", standing.reason, standing.message),
        };
        output::progress(&line, line != last);
        last = line;
    };
    let waiting = cluster.wait_ready(object, limit, observe);
    let result = tokio::select! {
        result = waiting => result,
        () = shutdown.cancelled() => bail!("interrupted"),
    };
    output::progress_done();
    result?;
    output::say(format_args!("✓ {} is ready", object_name(object)));
    Ok(())
}

fn object_name(object: &DynamicObject) -> String {
    let kind = object
        .types
        .as_ref()
        .map_or("object", |types| types.kind.as_str());
    format!("{} {}", kind, object.name_any())
}

/// A bar for the first Pod that loads its weights.
fn loading(object: &DynamicObject) -> Option<String> {
    const WIDTH: usize = 30;
    let loading = object.data["status"]["loading"].as_array()?.first()?;
    let percent = usize::try_from(loading["percent"].as_u64()?).ok()?.min(100);
    let done = percent * WIDTH / 100;
    let phase = loading["phase"].as_str().unwrap_or_default();
    Some(format!(
        "{phase} [{}{}] {percent} %",
        "#".repeat(done),
        ".".repeat(WIDTH - done)
    ))
}

async fn ask(gateway: &str, key: &str) -> Result<String> {
    output::say(format_args!(
        "\n── chat with {MODEL} through the gateway\n> {QUESTION}"
    ));
    let messages = json!([{"role": "user", "content": QUESTION}]);
    let body = json!({"model": MODEL, "messages": messages, "max_tokens": 64, "temperature": 0, "stream": true});
    let show = |text: &str| output::progress_text(text);
    let answer = chat::stream(&format!("{gateway}/v1/chat/completions"), key, &body, show).await?;
    output::say("");
    ensure!(!answer.trim().is_empty(), "the model gave an empty answer");
    Ok(answer)
}

async fn run_agent(url: String, key: String, namespace: &str) -> Result<Run> {
    output::say(format_args!(
        "\n── agent {AGENT}: the model writes, the workspace counts\n> {TOPIC}"
    ));
    let runtime = runs::AgentRuntime { url, key };
    let run = runtime
        .start(namespace, AGENT, json!(TOPIC))
        .await
        .context("starting the agent's run")?;
    runtime.follow(&run.id, runs::show_transcript).await?;
    let run = runtime.get(&run.id).await?;
    if run.status != RunStatus::Succeeded {
        bail!(
            "the agent's run ended as {:?}: {}",
            run.status,
            run.error.unwrap_or_default()
        );
    }
    Ok(run)
}

fn say_next(global: &Global, gateway: &str, agents: &str, key: &str) -> Result<()> {
    let kubeconfig = global.data()?.kubeconfig();
    let kubeconfig = kubeconfig.display();
    output::print(format_args!(
        "
── what to try next, once `qd up` runs
kubectl   export KUBECONFIG={kubeconfig}
          kubectl get models,routes,agents,workspaces
curl      curl {gateway}/v1/chat/completions -H 'Authorization: Bearer {key}' \\
            -H 'Content-Type: application/json' \\
            -d '{{\"model\": \"{MODEL}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hi!\"}}]}}'
python    from openai import OpenAI
          client = OpenAI(base_url=\"{gateway}/v1\", api_key=\"{key}\")
agents    OpenAI(base_url=\"{agents}/v1\", api_key=\"{key}\"), model=\"{AGENT}\"
key       {key}"
    ));
    Ok(())
}
