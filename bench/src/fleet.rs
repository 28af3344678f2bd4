//! A fleet of fake engines with real block caches behind our gateway and behind other people's cache-aware routers: the
//! same traffic for each, in real time.

mod contestant;
pub(crate) mod driver;
mod engine;
mod rows;
mod traffic;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::report::{alone, keep, results_folder, root, say};

use contestant::Contestant;
use rows::Figures;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// How many times faster than life engines read and people think
    #[arg(long, default_value_t = 4.0)]
    speed: f64,
    /// Measure only this traffic: conversations, agents or documents
    #[arg(long = "work")]
    works: Vec<String>,
    /// Measure no peers
    #[arg(long)]
    no_peers: bool,
    /// Folder of the peers' programs; installed there if they are not
    #[arg(long, env = "QUARTERDECK_PEERS", default_value = "target/peers")]
    peers: PathBuf,
    /// Folder for the results
    #[arg(long, default_value_os_t = results_folder())]
    results: PathBuf,
}

/// Measures and reports.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(0.0 < args.speed, "the speed is above 0");
    let _lock = alone()?;
    let folder = tempfile::tempdir_in(root().join("target")).context("making a folder")?;
    let contestants = contestant::all(args.no_peers, &root().join(&args.peers))?;
    let mut figures = Vec::new();
    for work in traffic::NAMES {
        if !args.works.is_empty() && !args.works.iter().any(|asked| asked == work) {
            continue;
        }
        for contestant in &contestants {
            let seen = measure(contestant, work, args.speed, folder.path())
                .with_context(|| format!("{}: {work}", contestant.name()))?;
            say(&format!("  {}: {work}: {seen}", contestant.name()));
            figures.push(Figures {
                work,
                name: contestant.name(),
                is_ours: matches!(contestant, Contestant::Ours),
                seen,
            });
        }
    }
    keep("fleet", &rows::rows(&figures), &args.results)
}

fn measure(
    contestant: &Contestant,
    work: &str,
    speed: f64,
    folder: &std::path::Path,
) -> Result<driver::Seen> {
    let mut driver = driver::Driver::start(work, speed)?;
    let server = contestant.start(driver.engines(), folder)?;
    let mut seen = driver.run(server.port())?;
    if matches!(contestant, Contestant::Ours) {
        seen.decisions = Some(rows::decisions(&server)?);
    }
    server.stop()?;
    Ok(seen)
}
