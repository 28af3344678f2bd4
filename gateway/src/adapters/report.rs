//! Reports: what an engine says that it holds, in its list of models and in its metrics. Pure.

use std::collections::HashSet;

use serde::Deserialize;

/// The series of vLLM's that names the adapters in use; its value is the time, and the latest one counts.
const SERIES: &str = "vllm:lora_requests_info{";
/// The label with those that run.
const RUNNING: &str = "running_lora_adapters=\"";

/// What a replica says that it holds, by the adapters' names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// All.
    pub(super) loaded: HashSet<String>,
    /// Those that requests run with.
    pub(super) active: HashSet<String>,
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{active, loaded};

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
}
