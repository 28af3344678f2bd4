//! Reports: what an engine says that it holds, in its list of models and in its metrics. Pure.

use std::collections::HashSet;

use serde::Deserialize;

/// The series of vLLM's that names the adapters in use; its value is the time, and the latest one counts.
const SERIES: &str = "vllm:lora_requests_info{";
/// The series with requests that wait in an engine.
const WAITING: [&str; 1] = ["vllm:num_requests_waiting"];
/// The series with the share of an engine's cache that is in use, by its names in newer and older versions.
const CACHE: [&str; 2] = ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"];
/// The label with those that run.
const RUNNING: &str = "running_lora_adapters=\"";

/// What a replica says that it holds, by the adapters' names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Report {
    /// All.
    pub(super) loaded: HashSet<String>,
    /// Those that requests run with.
    pub(super) active: HashSet<String>,
    /// How busy it is.
    pub(super) busyness: Busyness,
}

/// How busy a replica says that it is, as far as it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Busyness {
    /// Requests that wait in it.
    pub(crate) waiting: Option<f64>,
    /// Share of its cache that is in use, from 0 to 1.
    pub(crate) cache: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    parent: Option<String>,
}

/// The adapters in an answer of `GET /v1/models`: models that have a parent. `None` if it is none.
pub(super) fn loaded(models: &[u8]) -> Option<HashSet<String>> {
    let models: Models = serde_json::from_slice(models).ok()?;
    let adapted = models
        .data
        .into_iter()
        .filter(|model| model.parent.is_some());
    Some(adapted.map(|model| model.id).collect())
}

/// The adapters that run, by the text that Prometheus reads; none if it does not say.
pub(super) fn active(metrics: &str) -> HashSet<String> {
    let lines = metrics.lines().filter(|line| line.starts_with(SERIES));
    let timed = lines.filter_map(|line| {
        let (labels, value) = line.rsplit_once('}')?;
        let time: f64 = value.split_whitespace().next()?.parse().ok()?;
        Some((time, labels))
    });
    let latest = timed.max_by(|left, right| left.0.total_cmp(&right.0));
    let names = latest.and_then(|(_, labels)| {
        let (_, rest) = labels.split_once(RUNNING)?;
        rest.split_once('"').map(|(names, _)| names)
    });
    let names = names.unwrap_or_default().split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names.map(ToOwned::to_owned).collect()
}

/// How busy an engine is, by the text that Prometheus reads.
pub(super) fn busyness(metrics: &str) -> Busyness {
    Busyness {
        // An engine of several parts has a series for each.
        waiting: values(metrics, &WAITING).reduce(|left, right| left + right),
        cache: values(metrics, &CACHE).reduce(f64::max),
    }
}

/// The values of all series of these names.
fn values<'a>(metrics: &'a str, names: &'a [&'a str]) -> impl Iterator<Item = f64> {
    metrics.lines().filter_map(|line| {
        let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        let behind = rest.rsplit_once('}').map_or(rest, |(_, behind)| behind);
        let value: f64 = behind.split_whitespace().next()?.parse().ok()?;
        value.is_finite().then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Busyness, active, busyness, loaded};

    fn names(names: &[&str]) -> HashSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn models_with_a_parent_are_adapters() {
        let models = br#"{"object":"list","data":[{"id":"base","object":"model","root":"base","parent":null},
            {"id":"poet","parent":"base"},{"id":"alias"}]}"#;
        assert_eq!(loaded(models), Some(names(&["poet"])));
        assert_eq!(loaded(b"not found"), None);
        assert_eq!(loaded(br#"{"detail":"Not Found"}"#), None);
    }

    #[test]
    fn the_latest_of_the_engines_series_says_what_runs() {
        let metrics = "# TYPE vllm:lora_requests_info gauge\n\
            vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"old\",waiting_lora_adapters=\"\"} 1.7e9\n\
            vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"a,b\",waiting_lora_adapters=\"c\"} 1.8e9\n\
            vllm:num_requests_running{engine=\"0\"} 2\n";
        assert_eq!(active(metrics), names(&["a", "b"]));
        assert_eq!(active(""), names(&[]));
        let idle = "vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"} 1\n";
        assert_eq!(active(idle), names(&[]));
    }

    #[test]
    fn engines_say_how_busy_they_are() {
        let metrics = "# TYPE vllm:num_requests_waiting gauge\n\
            vllm:num_requests_waiting{engine=\"0\",model_name=\"m}\"} 2.0\n\
            vllm:num_requests_waiting{engine=\"1\"} 3\n\
            vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 7\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n";
        let busy = Busyness {
            waiting: Some(5.0),
            cache: Some(0.25),
        };
        assert_eq!(busyness(metrics), busy);
        let older = Busyness {
            waiting: None,
            cache: Some(0.5),
        };
        assert_eq!(busyness("vllm:gpu_cache_usage_perc 0.5\n"), older);
        assert_eq!(
            busyness("vllm:kv_cache_usage_perc NaN\n"),
            Busyness::default()
        );
    }
}
