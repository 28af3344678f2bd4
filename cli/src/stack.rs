//! The embedded stack: API server, controllers and node in this process, everything else as Pods.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use cluster_apiserver::{Pki, ServerConfig};
use cluster_controllers::ControllersConfig;
use cluster_node::{Backoff, NodeConfig};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Cluster, SYSTEM_NAMESPACE, apply},
    data::{DataFolder, DataLock},
    output,
};

/// The chart, rendered with its embedded values; `cargo xtask stack` writes it.
const STACK: &str = include_str!("../manifests/stack.yaml");
/// How long the parts of the stack may take to become available.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long Pods, controllers and API server each may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Between two questions to a plane that is not ready.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// The node's name.
const NODE: &str = "local";
/// The Deployments that make up the stack.
const DEPLOYMENTS: &[&str] = &[
    "quarterdeck-operator",
    "quarterdeck-gateway",
    "quarterdeck-agents",
];

/// How the stack is started.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StackConfig {
    /// The API server's port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// Run containers even where this host cannot isolate them
    #[arg(long)]
    allow_unisolated: bool,
}

/// A running stack.
pub(crate) struct Stack {
    cluster: Cluster,
    shutdown: CancellationToken,
    /// Each part stops by its own token: the node first, while it can still report; the API server last.
    parts: Vec<Part>,
    failure: CancellationToken,
    _lock: DataLock,
}

struct Part {
    name: &'static str,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Stack {
    /// Starts the parts that run in this process and applies the others.
    pub(crate) async fn start(
        config: &StackConfig,
        data: &DataFolder,
        shutdown: &CancellationToken,
    ) -> Result<Self> {
        let lock = data.lock()?;
        let pki = Pki::load_or_create(&data.path().join("pki"))
            .context("making certificates and keys")?;
        let api = listen(config.port).await?;
        let url = format!(
            "https://{}",
            api.local_addr()
                .context("reading the API server's address")?
        );
        pki.write_kubeconfig(&data.kubeconfig(), &url)
            .context("writing the kubeconfig")?;
        let failure = CancellationToken::new();
        let mut parts = vec![serve_api(&pki, data.path(), api, &url, &failure)];
        let cluster = Cluster::connect(&data.kubeconfig()).await?;
        wait_for_api(&cluster, &failure).await?;
        parts.push(run_controllers(&cluster, &pki, data.path(), &failure));
        parts.push(run_node(config, &cluster, &pki, data.path(), &url, &failure).await?);
        let stack = Self {
            cluster,
            shutdown: shutdown.clone(),
            parts,
            failure,
            _lock: lock,
        };
        if let Err(error) = stack.apply_stack().await {
            stack.stop().await?;
            return Err(error);
        }
        Ok(stack)
    }

    /// The cluster, as its administrator.
    pub(crate) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Cancelled when the user wants to stop.
    pub(crate) const fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Waits until all parts of the stack serve.
    pub(crate) async fn wait_ready(&self) -> Result<()> {
        let waiting = DEPLOYMENTS.iter().map(|name| {
            self.cluster
                .wait_deployment(SYSTEM_NAMESPACE, name, READY_LIMIT)
        });
        let ready = async {
            futures::future::try_join_all(waiting).await?;
            // After a restart the Deployments' statuses are those of before; the planes themselves know.
            for service in ["quarterdeck-gateway", "quarterdeck-agents"] {
                self.wait_serving(service).await?;
            }
            Ok(())
        };
        tokio::select! {
            result = ready => result,
            () = self.failure.cancelled() => Err(anyhow!("a part of the stack ended; its log lines say why")),
        }
    }

    /// Asks a plane whether it is ready until it says so; nothing else can tell.
    async fn wait_serving(&self, service: &str) -> Result<()> {
        let client = reqwest::Client::new();
        let ask = async {
            loop {
                if let Ok(url) = self.cluster.service_url(service).await {
                    let answer = client.get(format!("{url}/readyz")).send().await;
                    if answer.is_ok_and(|answer| answer.status().is_success()) {
                        return;
                    }
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        timeout(READY_LIMIT, ask)
            .await
            .with_context(|| format!("{service} is not ready after {READY_LIMIT:?}"))
    }

    /// Waits until a part ends that should not.
    pub(crate) async fn failed(&self) {
        self.failure.cancelled().await;
    }

    /// Stops everything, Pods first.
    pub(crate) async fn stop(self) -> Result<()> {
        let mut result = Ok(());
        for part in self.parts.into_iter().rev() {
            let name = part.name;
            if let Err(error) = part.stop().await {
                output::say(format_args!(
                    "warning: the {name} did not stop as it should: {error:#}"
                ));
                result = result.and(Err(error.context(format!("stopping the {name}"))));
            }
        }
        result
    }

    async fn apply_stack(&self) -> Result<()> {
        let mut objects = Vec::new();
        for crd in crds::all() {
            objects.extend(apply::parse(&crds::yaml(&crd)).context("reading a CRD")?);
        }
        objects.extend(apply::parse(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SYSTEM_NAMESPACE}}}\n"
        ))?);
        objects.extend(apply::parse(STACK).context("reading the stack's manifests")?);
        self.cluster
            .apply(&objects, SYSTEM_NAMESPACE)
            .await
            .context("applying the stack")
            .map(drop)
    }
}

impl Part {
    /// Runs `part` until its token is cancelled; an earlier end is a failure of the stack.
    fn start(
        name: &'static str,
        stop: CancellationToken,
        failure: &CancellationToken,
        part: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Self {
        let (token, failure) = (stop.clone(), failure.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let result = part.await;
            if !token.is_cancelled() {
                let reason = result
                    .as_ref()
                    .err()
                    .map_or_else(|| "it just ended".to_owned(), |error| format!("{error:#}"));
                output::say(format_args!("error: the {name} ended: {reason}"));
                failure.cancel();
            }
            result
        });
        Self { name, stop, tasks }
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        match timeout(STOP_LIMIT, self.tasks.join_next()).await {
            Ok(Some(Ok(result))) => result,
            Ok(Some(Err(error))) => Err(error).context("it panicked"),
            Ok(None) => Ok(()),
            Err(_) => Err(anyhow!("it still ran after {STOP_LIMIT:?}")),
        }
    }
}

async fn listen(port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let hint = || format!("listening on {address}\nhint: choose another port with --port");
    TcpListener::bind(address).await.with_context(hint)
}

fn serve_api(
    pki: &Pki,
    data: &Path,
    listener: TcpListener,
    url: &str,
    failure: &CancellationToken,
) -> Part {
    let config = ServerConfig {
        data_dir: Some(data.join("cluster")),
        pki: pki.clone(),
        advertise_url: url.to_owned(),
    };
    let stop = CancellationToken::new();
    let serving = cluster_apiserver::serve(config, listener, stop.clone());
    Part::start("API server", stop, failure, async move {
        serving.await.context("serving the API")
    })
}

/// The listener is open from the start, so the first answer tells that the server is ready.
async fn wait_for_api(cluster: &Cluster, failure: &CancellationToken) -> Result<()> {
    tokio::select! {
        version = cluster.client.apiserver_version() => version.context("asking the API server for its version").map(drop),
        () = failure.cancelled() => Err(anyhow!("the API server did not start")),
    }
}

fn run_controllers(cluster: &Cluster, pki: &Pki, data: &Path, failure: &CancellationToken) -> Part {
    let config = ControllersConfig {
        ca_pem: pki.ca_pem.clone(),
        data_dir: data.to_owned(),
    };
    let stop = CancellationToken::new();
    let running = cluster_controllers::run(cluster.client.clone(), config, stop.clone());
    Part::start("controllers", stop, failure, async move {
        running.await.context("running the controllers")
    })
}

async fn run_node(
    config: &StackConfig,
    cluster: &Cluster,
    pki: &Pki,
    data: &Path,
    url: &str,
    failure: &CancellationToken,
) -> Result<Part> {
    fs::create_dir_all(data).with_context(|| format!("creating {}", data.display()))?;
    let config = NodeConfig {
        name: NODE.to_owned(),
        data_dir: data.to_owned(),
        executable: std::env::current_exe().context("finding this program")?,
        listener: listen(0).await?,
        node_token: pki.node_token.clone(),
        api_server_url: url.to_owned(),
        ca_pem: pki.ca_pem.clone(),
        inherited_environment: inherited_environment(),
        cluster_domain: "cluster.local".to_owned(),
        dns_address: cluster_node::DNS_ADDRESS,
        allow_unisolated: config.allow_unisolated,
        backoff: Backoff::default(),
    };
    let stop = CancellationToken::new();
    let running = cluster_node::run(config, cluster.client.clone(), stop.clone());
    Ok(Part::start("node", stop, failure, async move {
        running.await.context("running the node")
    }))
}

/// What Pods that are our own processes see of this environment: programs, home, and how packages are fetched.
fn inherited_environment() -> BTreeMap<String, String> {
    const NAMES: &[&str] = &[
        "PATH",
        "HOME",
        "LANG",
        "HF_ENDPOINT",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ];
    const PREFIXES: &[&str] = &[
        "PIP_",
        "HTTP_",
        "HTTPS_",
        "NO_PROXY",
        "ALL_PROXY",
        "http_",
        "https_",
        "no_proxy",
        "all_proxy",
    ];
    let is_passed = |name: &str| {
        NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(name, _)| is_passed(name)).collect()
}
