//! What a node that was killed may have left: processes that carry its mark. Ended at the next start.
//!
//! A process is ended only if it carries this node's mark in its environment, or if it was recorded with its start time and
//! still has both; a stranger with a reused id is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// Environment variable that every process container carries; its value names the node.
pub(crate) const MARK: &str = "QUARTERDECK_NODE_MARK";
/// Environment variable that holds the Pod's address.
pub(crate) const POD_ADDRESS: &str = "QUARTERDECK_POD_ADDRESS";

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// Clock ticks between boot and the process's start.
    start_ticks: u64,
}

/// Notes a process in the Pod's folder.
pub(crate) fn record(folder: &Path, container: &str, pid: Pid) -> Option<PathBuf> {
    let pid = pid.as_raw_nonzero().get();
    let record = Record {
        pid,
        start_ticks: start_ticks(pid)?,
    };
    let path = folder.join("processes").join(format!("{container}.json"));
    let written = path
        .parent()
        .map(fs::create_dir_all)
        .transpose()
        .and_then(|_| {
            let text = serde_json::to_vec(&record)?;
            fs::write(&path, text)
        });
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "process not recorded");
        return None;
    }
    Some(path)
}

/// Ends every process that the former node with this `mark` left. Returns how many.
pub(crate) fn end_processes(mark: &str, pods: &Path) -> usize {
    let mut pids: BTreeSet<i32> = marked(mark).into_iter().collect();
    pids.extend(recorded(pods));
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    pids.remove(&own);
    let victims: Vec<Pid> = pids.into_iter().filter_map(Pid::from_raw).collect();
    victims
        .into_iter()
        .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
        .count()
}

fn marked(mark: &str) -> Vec<i32> {
    let wanted = format!("{MARK}={mark}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    })
    .collect()
}

fn recorded(pods: &Path) -> Vec<i32> {
    let folders = fs::read_dir(pods)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("processes"));
    let files = folders
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    let records = files
        .filter_map(|file| serde_json::from_slice::<Record>(&fs::read(file.path()).ok()?).ok());
    records
        .filter(|record| start_ticks(record.pid) == Some(record.start_ticks))
        .map(|record| record.pid)
        .collect()
}

fn start_ticks(pid: i32) -> Option<u64> {
    parse_start_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/PID/stat`; the second field may hold spaces and parentheses. A zombie runs no more.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let ticks = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_command_name() {
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1000 10";
        assert_eq!(parse_start_ticks(stat), Some(98765));
        assert_eq!(
            parse_start_ticks(&stat.replace(") S", ") Z")),
            None,
            "a zombie runs no more"
        );
        assert_eq!(parse_start_ticks("nothing"), None);
    }

    #[test]
    fn a_recorded_process_with_another_start_time_is_a_stranger() {
        let folder = tempfile::tempdir().unwrap();
        let processes = folder.path().join("uid/processes");
        fs::create_dir_all(&processes).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let ticks = start_ticks(own).unwrap();
        let write = |start_ticks| {
            let record = serde_json::to_vec(&Record {
                pid: own,
                start_ticks,
            })
            .unwrap();
            fs::write(processes.join("c.json"), record).unwrap();
        };
        write(ticks + 1);
        assert_eq!(recorded(folder.path()), Vec::<i32>::new());
        write(ticks);
        assert_eq!(recorded(folder.path()), vec![own]);
    }
}
