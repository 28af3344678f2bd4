//! The engine under mixed load at a full queue: every request must be answered or refused in protocol, and
//! afterwards no block, no sequence and no memory may be missing.

mod checks;
mod load;
mod requests;

use std::{
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    process::{Server, free_port},
    report::{Row, Target, alone, keep, results_folder, root, say},
};

use load::Counts;

const SEQUENCES_MAX: &str = "8";
const WAITING_MAX: &str = "32";
/// So little that long prompts push each other out.
const CACHE_MIB: &str = "64";
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);
/// Memory that fills at first, as the cache, is no leak.
const WARM_UP_SHARE: f64 = 0.3;
/// An hour at this slope is 6 MB: less than the cache of one long prompt.
const SLOPE_MAX: f64 = 100.0;

/// How long and how hard.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// How long the load lasts
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Clients at a time; more than the server computes and queues, so that some are refused
    #[arg(long, default_value_t = 48)]
    clients: usize,
    /// Makes another mix of requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The model's file
    #[arg(long, default_value_os_t = root().join("target/weights/SmolLM2-135M-Instruct.Q4_1.gguf"))]
    model: PathBuf,
    /// Further flags of the server, separated by spaces
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    server_flags: String,
    /// Folder for the results
    #[arg(long, default_value_os_t = results_folder())]
    results: PathBuf,
}

/// What was seen of the server at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    minutes: f64,
    /// All memory, and the part of it that the server has allocated.
    kilobytes: f64,
    allocated_kilobytes: f64,
    waiting: f64,
}

/// Loads a server and reports.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.model.exists(),
        "there is no {}\nhint: cargo xtask weights",
        args.model.display()
    );
    let _lock = alone()?;
    let folder = tempfile::tempdir().context("making a folder for the server's log")?;
    let log = folder.path().join("server.log");
    let server = start(
        args,
        File::create(&log).context("creating the server's log")?,
    )?;
    let duration = Duration::from_secs_f64(args.minutes * 60.0);
    say(&format!(
        "{} clients for {duration:?}; the server computes {SEQUENCES_MAX} requests and queues {WAITING_MAX}",
        args.clients
    ));
    let (counts, samples) = soak(args, &server, duration)?;
    let settled = settle(&server)?;
    let preemptions = server.metric("vllm:num_preemptions_total")?;
    let tokens = server.metric("vllm:generation_tokens_total")?;
    let ended_well = server.stop()?;
    let log = std::fs::read_to_string(&log).context("reading the server's log")?;
    let panics = log.matches("panicked at").count();
    for line in log.lines().filter(|line| line.contains("panicked at")) {
        say(line);
    }
    let mut rows = vec![Row::new("time of the load", "min", args.minutes)];
    rows.extend(counts.rows());
    rows.extend([
        Row::new("tokens generated", "tok/s", tokens / duration.as_secs_f64()),
        Row::new("preemptions", "count", preemptions),
        Row::new("longest queue", "requests", longest_queue(&samples)),
        Row::new(
            "memory at the end",
            "MB",
            samples.last().map_or(f64::NAN, |last| last.kilobytes / 1e3),
        ),
        Row::new(
            "allocated at the end",
            "MB",
            samples
                .last()
                .map_or(f64::NAN, |last| last.allocated_kilobytes / 1e3),
        ),
        Row::new("slope of the allocated memory", "kB/min", slope(&samples))
            .must_reach(Target::AtMost(SLOPE_MAX)),
        Row::new(
            "share of the cache in use after the load",
            "",
            settled.cache,
        )
        .must_reach(Target::AtMost(0.0)),
        Row::new("requests left after the load", "count", settled.requests)
            .must_reach(Target::AtMost(0.0)),
        Row::new("panics", "count", panics as f64).must_reach(Target::AtMost(0.0)),
        Row::new(
            "ended well when asked to stop",
            "count",
            f64::from(ended_well),
        )
        .must_reach(Target::AtLeast(1.0)),
    ]);
    keep("soak", &rows, &args.results)?;
    if rows.iter().any(Row::is_missed) {
        bail!("the soak has found a fault; the table says which");
    }
    Ok(())
}

fn start(args: &Args, log: File) -> Result<Server> {
    let port = free_port()?;
    let model = args.model.canonicalize().context("finding the weights")?;
    let own = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(own);
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--source", &format!("file://{}", model.display())]);
    command.args(["--served-name", "bench", "--kv-cache-mib", CACHE_MIB]);
    command.args([
        "--max-sequences",
        SEQUENCES_MAX,
        "--max-waiting",
        WAITING_MAX,
    ]);
    command.arg("--cache-dir").arg(std::env::temp_dir());
    command.args(args.server_flags.split_whitespace());
    let errors = log.try_clone().context("sharing the server's log")?;
    command.stdout(Stdio::from(log)).stderr(Stdio::from(errors));
    Server::start(&mut command, port, "/health/ready")
}

/// The load, and beside it a look at the server now and then.
fn soak(args: &Args, server: &Server, duration: Duration) -> Result<(Counts, Vec<Sample>)> {
    let is_over = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    thread::scope(|scope| {
        let sampler = scope.spawn(|| watch(server, &is_over));
        let counts = runtime.block_on(load::run(server.port(), args.clients, args.seed, duration));
        is_over.store(true, Ordering::Relaxed);
        let samples = sampler.join().unwrap_or_default();
        Ok((counts?, samples))
    })
}

fn watch(server: &Server, is_over: &AtomicBool) -> Vec<Sample> {
    let begin = Instant::now();
    let mut samples = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        if let (Ok(bytes), Ok(allocated), Ok(waiting)) = (
            server.memory_bytes(),
            server.allocated_bytes(),
            server.metric("vllm:num_requests_waiting"),
        ) {
            samples.push(Sample {
                minutes: begin.elapsed().as_secs_f64() / 60.0,
                kilobytes: bytes as f64 / 1e3,
                allocated_kilobytes: allocated as f64 / 1e3,
                waiting,
            });
            if samples.len().is_multiple_of(30) {
                say(&format!(
                    "  {:.0} min: {:.1} MB, {:.1} MB of them allocated, {waiting} wait",
                    begin.elapsed().as_secs_f64() / 60.0,
                    bytes as f64 / 1e6,
                    allocated as f64 / 1e6
                ));
            }
        }
        thread::sleep(SAMPLE_INTERVAL);
    }
    samples
}

/// What is left when nobody asks any more.
struct Settled {
    cache: f64,
    requests: f64,
}

fn settle(server: &Server) -> Result<Settled> {
    let begin = Instant::now();
    loop {
        let cache = server.metric("vllm:kv_cache_usage_perc")?;
        let requests = server.metric("vllm:num_requests_running")?
            + server.metric("vllm:num_requests_waiting")?;
        if (cache == 0.0 && requests == 0.0) || SETTLE_TIMEOUT < begin.elapsed() {
            return Ok(Settled { cache, requests });
        }
        thread::sleep(SETTLE_INTERVAL);
    }
}

fn longest_queue(samples: &[Sample]) -> f64 {
    let lengths = samples.iter().map(|sample| sample.waiting);
    lengths.fold(0.0, f64::max)
}

/// The slope of the line through the samples behind the warm-up, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let warm_up = samples
        .last()
        .map_or(0.0, |last| last.minutes * WARM_UP_SHARE);
    let samples: Vec<_> = samples
        .iter()
        .filter(|sample| warm_up <= sample.minutes)
        .collect();
    let count = samples.len() as f64;
    let mean = |value: &dyn Fn(&Sample) -> f64| {
        samples.iter().map(|sample| value(sample)).sum::<f64>() / count
    };
    let (minutes, kilobytes) = (
        mean(&|sample| sample.minutes),
        mean(&|sample| sample.allocated_kilobytes),
    );
    let covariance =
        mean(&|sample| (sample.minutes - minutes) * (sample.allocated_kilobytes - kilobytes));
    let variance = mean(&|sample| (sample.minutes - minutes).powi(2));
    if 0.0 < variance {
        covariance / variance
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Sample, slope};

    #[track_caller]
    fn check(kilobytes: impl Fn(f64) -> f64, expected: f64) {
        let samples = (0..100).map(|number| {
            let minutes = f64::from(number) / 10.0;
            Sample {
                minutes,
                kilobytes: 0.0,
                allocated_kilobytes: kilobytes(minutes),
                waiting: 0.0,
            }
        });
        let slope = slope(&samples.collect::<Vec<_>>());
        assert!((slope - expected).abs() < 1e-6, "{slope} is not {expected}");
    }

    #[test]
    fn the_slope_is_growth_behind_the_warm_up() {
        check(|_| 7.0, 0.0);
        check(|minutes| 7.0 + 3.0 * minutes, 3.0);
        check(
            |minutes| if minutes < 2.0 { minutes * 1e6 } else { 5.0 },
            0.0,
        );
    }

    #[test]
    fn nothing_has_no_slope() {
        assert_eq!(slope(&[]), 0.0);
    }
}
