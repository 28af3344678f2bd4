//! The process beside the gateway under test: the engines and the clients, on a core of their own.

use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::TcpListener, task::JoinSet};

use crate::apart;

use super::{
    engine::{self, Engine},
    traffic,
};

/// The core of the engines and the clients.
const CORE: usize = 1;

/// What the engines serve and the clients send.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The traffic's name
    #[arg(long)]
    work: String,
    /// How many times faster than life everything goes
    #[arg(long)]
    speed: f64,
}

/// What a gateway made of the traffic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Share of all prompts' tokens that was cached.
    pub(super) hit_ratio: f64,
    /// Seconds to the first token that half of the requests stay under.
    pub(super) first_token_p50: f64,
    /// Seconds to the first token that 99 % of the requests stay under.
    pub(super) first_token_p99: f64,
    /// Seconds that the busiest engine read.
    pub(super) busiest: f64,
    /// The same against the mean of all engines.
    pub(super) imbalance: f64,
    /// How long the gateway's decisions took, if it tells.
    pub(super) decisions: Option<Decisions>,
}

/// How long decisions took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Decisions {
    /// Microseconds that 99 % of them stay under; the upper end of the metric's bucket.
    pub(super) p99_micros: f64,
    /// Seconds of a core for each of them.
    pub(super) mean_seconds: f64,
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hit_ratio,
            first_token_p50,
            first_token_p99,
            busiest,
            imbalance,
            decisions,
        } = self;
        let hits = hit_ratio * 100.0;
        write!(
            formatter,
            "hits {hits:.1} %, first token p50 {first_token_p50:.3} s, p99 {first_token_p99:.3} s, busiest {busiest:.1} s, {imbalance:.2}x the mean"
        )?;
        if let Some(Decisions {
            p99_micros,
            mean_seconds,
        }) = decisions
        {
            let mean = mean_seconds * 1e6;
            write!(
                formatter,
                ", decisions {mean:.0} µs, p99 within {p99_micros:.0} µs"
            )?;
        }
        Ok(())
    }
}

/// The driver, as its parent sees it.
#[derive(Debug)]
pub(super) struct Driver {
    child: Child,
    orders: ChildStdin,
    outcomes: BufReader<ChildStdout>,
    engines: Vec<u16>,
}

impl Driver {
    /// Starts it, with its engines on ports of their own.
    pub(super) fn start(work: &str, speed: f64) -> Result<Self> {
        let own = std::env::current_exe().context("finding this program")?;
        let mut command = apart::command_on(CORE, own)?;
        command.args(["drive-fleet", "--work", work, "--speed", &speed.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the driver")?;
        let mut driver = Self {
            orders: child.stdin.take().context("no input of the driver")?,
            outcomes: BufReader::new(child.stdout.take().context("no output of the driver")?),
            child,
            engines: Vec::new(),
        };
        driver.engines = driver.listen().context("the driver's engines")?;
        Ok(driver)
    }

    /// The engines' ports.
    pub(super) fn engines(&self) -> &[u16] {
        &self.engines
    }

    /// Sends the traffic through a gateway.
    pub(super) fn run(&mut self, port: u16) -> Result<Seen> {
        writeln!(self.orders, "{port}").context("telling the driver")?;
        self.listen::<Result<Seen, String>>()?
            .map_err(anyhow::Error::msg)
    }

    fn listen<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        let read = self.outcomes.read_line(&mut line);
        read.context("listening to the driver")?;
        serde_json::from_str(&line).context("the driver has ended")
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Nobody waits for what this process still does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the engines, tells their ports, and sends the traffic once it is told where to.
pub(crate) fn run(args: &Args) -> Result<()> {
    // The client needs a provider, even where it speaks plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let workload = Arc::new(traffic::workload(&args.work)?);
        let (mut engines, mut ports, mut serving) = (Vec::new(), Vec::new(), JoinSet::new());
        for _ in 0..workload.engines {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await;
            let listener = listener.context("listening as an engine")?;
            ports.push(listener.local_addr().context("looking for a port")?.port());
            let engine = Arc::new(Engine::new(workload.cache_tokens, args.speed));
            serving.spawn(engine::serve(listener, Arc::clone(&engine)));
            engines.push(engine);
        }
        tell(&ports)?;
        let mut orders = tokio::io::BufReader::new(tokio::io::stdin());
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut orders, &mut line)
            .await
            .context("reading an order")?;
        let port = line.trim().parse().context("reading a port")?;
        let sent = traffic::send(workload, port, args.speed).await;
        let seen = sent.map(|first_tokens| summarize(first_tokens, &engines));
        tell(&seen.map_err(|error| format!("{error:#}")))
    })
}

fn tell(value: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(value).context("writing an outcome")?;
    writeln!(std::io::stdout(), "{line}").context("telling an outcome")
}

fn summarize(mut first_tokens: Vec<Duration>, engines: &[Arc<Engine>]) -> Seen {
    first_tokens.sort_unstable();
    let quantile = |share: f64| {
        let at = (first_tokens.len().saturating_sub(1) as f64 * share).round() as usize;
        first_tokens.get(at).map_or(f64::NAN, Duration::as_secs_f64)
    };
    let reads: Vec<_> = engines.iter().map(|engine| engine.read()).collect();
    let tokens: usize = reads.iter().map(|read| read.tokens).sum();
    let cached: usize = reads.iter().map(|read| read.cached_tokens).sum();
    let busy: Vec<f64> = reads.iter().map(|read| read.busy.as_secs_f64()).collect();
    let busiest = busy.iter().copied().fold(0.0, f64::max);
    Seen {
        hit_ratio: cached as f64 / tokens as f64,
        first_token_p50: quantile(0.5),
        first_token_p99: quantile(0.99),
        busiest,
        imbalance: busiest * busy.len() as f64 / busy.iter().sum::<f64>(),
        decisions: None,
    }
}
