//! The process beside the gateway under test: the fake upstream and the clients, on a core of their own.
//!
//! It takes orders as JSON lines on standard input and answers each with one on standard output.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader as AsyncBufReader, stdin},
    net::TcpListener,
    task::JoinSet,
};

use crate::apart;

use super::{
    load::{self, Load, Seen},
    upstream,
};

/// Where the fake upstream listens.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The upstream's port on the loopback interface
    #[arg(long)]
    port: u16,
}

/// What the driver is told to do.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Load(Load),
    Open { port: u16, pid: u32, streams: usize },
}

#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Seen(Seen),
    MemoryBytes(f64),
    Failed(String),
}

/// The driver, as its parent sees it.
#[derive(Debug)]
pub(super) struct Driver {
    child: Child,
    orders: ChildStdin,
    outcomes: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts it on a core, with its upstream on a port.
    pub(super) fn start(core: usize, port: u16) -> Result<Self> {
        let own = std::env::current_exe().context("finding this program")?;
        let mut command = apart::command_on(core, own)?;
        command.args(["drive", "--port", &port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the driver")?;
        Ok(Self {
            orders: child.stdin.take().context("no input of the driver")?,
            outcomes: BufReader::new(child.stdout.take().context("no output of the driver")?),
            child,
        })
    }

    /// Loads a gateway.
    pub(super) fn load(&mut self, load: Load) -> Result<Seen> {
        match self.obey(&Order::Load(load))? {
            Outcome::Seen(seen) => Ok(seen),
            other => Err(anyhow!("the driver saw {other:?}")),
        }
    }

    /// Opens streams through a gateway; gives its memory in bytes then.
    pub(super) fn open(&mut self, port: u16, pid: u32, streams: usize) -> Result<f64> {
        match self.obey(&Order::Open { port, pid, streams })? {
            Outcome::MemoryBytes(bytes) => Ok(bytes),
            other => Err(anyhow!("the driver saw {other:?}")),
        }
    }

    fn obey(&mut self, order: &Order) -> Result<Outcome> {
        let line = serde_json::to_string(order).context("writing an order")?;
        writeln!(self.orders, "{line}").context("telling the driver")?;
        let mut line = String::new();
        let read = self.outcomes.read_line(&mut line);
        read.context("listening to the driver")?;
        match serde_json::from_str(&line).context("the driver has ended")? {
            Outcome::Failed(reason) => Err(anyhow!(reason)),
            outcome => Ok(outcome),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Nobody waits for what this process still does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves as the upstream and obeys until there are no more orders.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", args.port)).await;
        let listener = listener.context("listening as the upstream")?;
        let mut serving = JoinSet::new();
        serving.spawn(upstream::serve(listener));
        let mut orders = AsyncBufReader::new(stdin()).lines();
        while let Some(line) = orders.next_line().await.context("reading an order")? {
            let outcome = obey(serde_json::from_str(&line).context("reading an order")?).await;
            let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
            let line = serde_json::to_string(&outcome).context("writing an outcome")?;
            writeln!(std::io::stdout(), "{line}").context("telling an outcome")?;
        }
        Ok(())
    })
}

async fn obey(order: Order) -> Result<Outcome> {
    match order {
        Order::Load(load) => load::load(&load).await.map(Outcome::Seen),
        Order::Open { port, pid, streams } => {
            let bytes = load::open(port, pid, streams).await?;
            Ok(Outcome::MemoryBytes(bytes))
        }
    }
}
