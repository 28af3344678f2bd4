//! A process and all below it: what they have computed and what they hold in memory.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result};

/// The process and all below it.
pub(crate) fn processes(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(parent) = tree.get(next).copied() {
        tree.extend(
            parents
                .iter()
                .filter(|(_, above)| *above == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    Ok(tree)
}

/// The proportional set size of processes in bytes: shared pages of one binary count once.
pub(crate) fn memory_bytes(processes: &[u32]) -> f64 {
    let kibibytes: f64 = processes
        .iter()
        .map(|pid| proportional_kibibytes(*pid))
        .sum();
    kibibytes * 1024.0
}

fn proportional_kibibytes(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or_default()
}

/// The time that each thread has been on a core, the kernel's work for it included.
#[derive(Debug, Default)]
pub(crate) struct CpuTimes(BTreeMap<String, Duration>);

impl CpuTimes {
    /// Reads the times of all threads of processes.
    pub(crate) fn read(processes: &[u32]) -> Self {
        let mut times = BTreeMap::new();
        for pid in processes {
            // A process that has ended computes no more.
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
                continue;
            };
            for thread in threads.flatten() {
                let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
                let name = thread.file_name().to_string_lossy().into_owned();
                times.extend(on_core(&text).map(|time| (name, time)));
            }
        }
        Self(times)
    }

    /// What was computed since an earlier reading; what ended in between is not seen.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let spent = |(thread, time): (&String, &Duration)| {
            time.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(spent).sum()
    }
}

/// The first of the three numbers of a `schedstat` file: nanoseconds on a core.
fn on_core(schedstat: &str) -> Option<Duration> {
    let nanoseconds = schedstat.split_whitespace().next()?;
    nanoseconds.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::{CpuTimes, on_core};

    #[test]
    fn a_thread_was_on_a_core_for_the_first_number() {
        assert_eq!(
            on_core("925656 4878822 2\n"),
            Some(Duration::from_nanos(925_656))
        );
        assert_eq!(on_core(""), None);
        assert_eq!(on_core("x 1 2"), None);
    }

    #[test]
    fn time_counts_from_the_earlier_reading_or_from_the_threads_start() {
        let times = |pairs: &[(&str, u64)]| {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(name, time)| ((*name).to_owned(), Duration::from_nanos(*time)));
            CpuTimes(BTreeMap::from_iter(pairs))
        };
        let (earlier, later) = (
            times(&[("1", 10), ("2", 5)]),
            times(&[("1", 12), ("3", 30)]),
        );
        assert_eq!(later.since(&earlier), Duration::from_nanos(32));
    }
}
