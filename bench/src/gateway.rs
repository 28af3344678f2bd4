//! The gateway, a bare proxy and other people's gateways in front of the same fake upstream, one core for each in turn.

mod contestant;
pub(crate) mod driver;
pub(crate) mod floor;
mod histogram;
mod http;
mod load;
mod peers;
mod rows;
mod script;
mod upstream;

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    process::free_port,
    report::{alone, keep, results_folder, root, say},
    tree,
};

use contestant::{Contestant, Place};
use driver::Driver;
use load::Load;
pub(crate) use peers::{Peer, Ports};
use rows::{All, Figures};
pub(crate) use script::KEY;
use script::Work;

const CLIENTS: usize = 16;
const STREAMS: usize = 1000;
/// Routes and keys beside the one that is used.
const OTHERS: usize = 10_000;
/// How long a gateway is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// A peer that needs 20 ms for a request is measured in the first round only, and not for long.
const SLOW_SECONDS: f64 = 3.0;
const QUICK_SECONDS: f64 = 0.5;
const QUICK_STREAMS: usize = 50;

/// What to measure and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// How often everything is measured; the best figure counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each load is counted
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// One short round to see that everything works; its figures are worth nothing and are not kept
    #[arg(long)]
    quick: bool,
    /// Measure only these loads
    #[arg(long = "work", value_enum)]
    works: Vec<Work>,
    /// Measure no peers
    #[arg(long)]
    no_peers: bool,
    /// Folder of the peers' programs; installed there if they are not
    #[arg(long, env = "QUARTERDECK_PEERS", default_value = "target/peers")]
    peers: PathBuf,
    /// Folder for the gateways' data; on a RAM disk, as /dev/shm, our ledger waits for nothing
    #[arg(long, default_value_os_t = root().join("target"))]
    data: PathBuf,
    /// Folder for the results
    #[arg(long, default_value_os_t = results_folder())]
    results: PathBuf,
}

/// Measures and reports.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        0 < args.rounds && 0.0 < args.seconds,
        "rounds and seconds are above 0"
    );
    let cores = thread::available_parallelism().map_or(1, usize::from);
    ensure!(
        2 <= cores,
        "the gateway and its clients need a core each, and there is only one"
    );
    let mut all = All::default();
    let contestants = contestants(args, &mut all);
    let _lock = if args.quick { None } else { Some(alone()?) };
    let folder = tempfile::tempdir_in(&args.data).context("making a folder")?;
    let mut stand = Stand::new(args, folder.path().to_owned(), cores - 1)?;
    let direct = stand.direct()?;
    say(&format!("  straight: {:.0} req/s", direct.rate));
    all.direct = Some(direct);
    let rounds = if args.quick { 1 } else { args.rounds };
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        for contestant in &contestants {
            if is_slow(contestant) && 1 < round {
                continue;
            }
            let name = contestant.name();
            let figures = all.of(&name);
            if let Err(error) = stand.measure(contestant, figures) {
                say(&format!("  {name}: {error:#}"));
                figures.faults.push(format!("{error:#}"));
            }
        }
    }
    let results = if args.quick {
        folder.path().to_owned()
    } else {
        args.results.clone()
    };
    keep("gateway", &rows::rows(&all), &results)?;
    let faults = all.faults_of_ours();
    ensure!(faults.is_empty(), "ours: {}", faults.join("; "));
    Ok(())
}

/// Everybody who can be measured here; a peer that cannot be installed is left out, and the results say so.
fn contestants(args: &Args, all: &mut All) -> Vec<Contestant> {
    let mut contestants = vec![Contestant::Ours { others: 0 }, Contestant::Floor];
    let peers = root().join(&args.peers).join("gateway");
    for peer in Peer::ALL.into_iter().filter(|_| !args.no_peers) {
        match peer.install(&peers) {
            Ok(program) => contestants.push(Contestant::Peer { peer, program }),
            Err(error) => {
                say(&format!("  {}: {error:#}", peer.name()));
                let fault = format!("installing it: {error:#}");
                all.of(peer.name()).faults.push(fault);
            }
        }
    }
    contestants.push(Contestant::Ours { others: OTHERS });
    contestants
}

fn is_slow(contestant: &Contestant) -> bool {
    matches!(
        contestant,
        Contestant::Peer {
            peer: Peer::LiteLlm,
            ..
        }
    )
}

/// Where gateways are measured, one after the other.
struct Stand {
    driver: Driver,
    place: Place,
    works: Vec<Work>,
    seconds: f64,
    streams: usize,
}

impl Stand {
    fn new(args: &Args, folder: PathBuf, core: usize) -> Result<Self> {
        let own = std::env::current_exe().context("finding this program")?;
        let program = folder.join("gateway");
        fs::copy(own, &program).context("copying this program")?;
        let upstream = free_port()?;
        let works = if args.works.is_empty() {
            vec![Work::Small, Work::Large, Work::Stream, Work::Paced]
        } else {
            args.works.clone()
        };
        let (seconds, streams) = if args.quick {
            (QUICK_SECONDS, QUICK_STREAMS)
        } else {
            (args.seconds, STREAMS)
        };
        Ok(Self {
            driver: Driver::start(core, upstream)?,
            place: Place {
                program,
                upstream,
                folder,
            },
            works,
            seconds,
            streams,
        })
    }

    /// How much the clients and the upstream can do without a gateway.
    fn direct(&mut self) -> Result<load::Seen> {
        self.driver.load(Load {
            port: self.place.upstream,
            pid: std::process::id(),
            work: Work::Small,
            clients: CLIENTS,
            seconds: self.seconds,
        })
    }

    /// Starts a gateway, weighs it, loads it and ends it; what was seen before a fault counts.
    fn measure(&mut self, contestant: &Contestant, figures: &mut Figures) -> Result<()> {
        let server = contestant.start(&self.place)?;
        thread::sleep(SETTLE);
        figures.add_idle(tree::memory_bytes(&tree::processes(server.pid())?));
        let name = contestant.name();
        let is_scale = matches!(contestant, Contestant::Ours { others } if *others != 0);
        let works = if is_scale {
            vec![Work::Small]
        } else {
            self.works.clone()
        };
        let seconds = if is_slow(contestant) {
            self.seconds.min(SLOW_SECONDS)
        } else {
            self.seconds
        };
        for work in works {
            let load = Load {
                port: server.port(),
                pid: server.pid(),
                work,
                clients: CLIENTS,
                seconds,
            };
            let seen = self
                .driver
                .load(load)
                .with_context(|| format!("{work:?}"))?;
            say(&format!(
                "  {name}: {work:?}: {:.1} µs CPU, {:.0}/s, {:.2} ms p50, {:.2} ms p99",
                seen.cpu_micros,
                seen.rate,
                seen.p50_micros / 1e3,
                seen.p99_micros / 1e3
            ));
            figures.add(work, seen);
        }
        if !is_scale {
            let streams = self.streams;
            let open = self.driver.open(server.port(), server.pid(), streams);
            let open = open.with_context(|| format!("{streams} open streams"))?;
            say(&format!(
                "  {name}: {:.1} MB with {streams} streams",
                open / 1e6
            ));
            figures.add_open(open);
        }
        server.stop()?;
        Ok(())
    }
}
