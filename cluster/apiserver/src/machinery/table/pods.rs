//! Cells of pods: the status that people know is worked out from phase and containers.

use serde_json::{Value, json};

use super::age;
use super::cells::{is_true, list, number, text, text_or};

/// What is said of a pod in its row.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: String,
}

fn is_sidecar(pod: &Value, name: &str) -> bool {
    let init = list(pod, "/spec/initContainers");
    init.iter().any(|container| {
        text(container, "/name") == name && text(container, "/restartPolicy") == "Always"
    })
}

fn ended(state: &Value) -> Option<String> {
    let terminated = state.pointer("/state/terminated")?;
    Some(
        match (text(terminated, "/reason"), number(terminated, "/signal")) {
            ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
            ("", signal) => format!("Signal:{signal}"),
            (reason, _) => reason.to_owned(),
        },
    )
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let sidecars = list(pod, "/spec/initContainers")
            .iter()
            .filter(|one| text(one, "/restartPolicy") == "Always");
        let mut summary = Self {
            ready: 0,
            total: list(pod, "/spec/containers").len() + sidecars.count(),
            reason: text_or(
                pod,
                "/status/reason",
                text_or(pod, "/status/phase", "Unknown"),
            )
            .to_owned(),
            restarts: 0,
            last_restart: String::new(),
        };
        let is_initializing = summary.read_init(pod);
        if !is_initializing || is_true(pod, "Initialized") {
            summary.read_containers(pod);
        }
        let is_over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        if !text(pod, "/metadata/deletionTimestamp").is_empty() && !is_over {
            let is_lost = text(pod, "/status/reason") == "NodeLost";
            summary.reason = if is_lost { "Unknown" } else { "Terminating" }.to_owned();
        }
        summary
    }

    fn note_restarts(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        let finished = text(status, "/lastState/terminated/finishedAt");
        if finished > self.last_restart.as_str() {
            finished.clone_into(&mut self.last_restart);
        }
    }

    /// Reads the init containers; true while they are at work.
    fn read_init(&mut self, pod: &Value) -> bool {
        let mut of_sidecars = 0;
        for (at, status) in list(pod, "/status/initContainerStatuses")
            .iter()
            .enumerate()
        {
            self.note_restarts(status);
            let is_sidecar = is_sidecar(pod, text(status, "/name"));
            if is_sidecar {
                of_sidecars += number(status, "/restartCount");
            }
            let code = status
                .pointer("/state/terminated/exitCode")
                .and_then(Value::as_i64);
            if code == Some(0) {
                continue;
            }
            if is_sidecar && status.get("started") == Some(&Value::Bool(true)) {
                self.ready += usize::from(status.get("ready") == Some(&Value::Bool(true)));
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            self.reason = if let Some(end) = ended(status) {
                format!("Init:{end}")
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{at}/{}", list(pod, "/spec/initContainers").len())
            };
            return true;
        }
        self.restarts = of_sidecars;
        false
    }

    fn read_containers(&mut self, pod: &Value) {
        let mut has_running = false;
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            self.note_restarts(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if let Some(end) = ended(status) {
                self.reason = end;
            } else if status.get("ready") == Some(&Value::Bool(true))
                && status.pointer("/state/running").is_some()
            {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            self.reason = if is_true(pod, "Ready") {
                "Running"
            } else {
                "NotReady"
            }
            .to_owned();
        }
    }
}

pub(super) fn ready(pod: &Value, _now: &str) -> Value {
    let summary = Summary::of(pod);
    json!(format!("{}/{}", summary.ready, summary.total))
}

pub(super) fn status(pod: &Value, _now: &str) -> Value {
    json!(Summary::of(pod).reason)
}

pub(super) fn restarts(pod: &Value, now: &str) -> Value {
    let summary = Summary::of(pod);
    if summary.restarts > 0 && !summary.last_restart.is_empty() {
        return json!(format!(
            "{} ({} ago)",
            summary.restarts,
            age::since(&summary.last_restart, now)
        ));
    }
    json!(summary.restarts.to_string())
}

pub(super) fn address(pod: &Value, _now: &str) -> Value {
    json!(text_or(pod, "/status/podIP", "<none>"))
}

pub(super) fn node(pod: &Value, _now: &str) -> Value {
    json!(text_or(pod, "/spec/nodeName", "<none>"))
}

pub(super) fn nominated_node(pod: &Value, _now: &str) -> Value {
    json!(text_or(pod, "/status/nominatedNodeName", "<none>"))
}

pub(super) fn gates(pod: &Value, _now: &str) -> Value {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return json!("<none>");
    }
    let met = gates
        .iter()
        .filter(|gate| is_true(pod, text(gate, "/conditionType")))
        .count();
    json!(format!("{met}/{}", gates.len()))
}

/// Finished pods are marked, so that clients may leave them out.
pub(super) fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}
