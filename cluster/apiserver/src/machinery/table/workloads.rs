//! Cells of deployments, sets and jobs.

use serde_json::{Value, json};

use super::age;
use super::cells::{count, is_true, joined, labels, list, number, selector, text, text_or};

fn containers<'a>(template: &'a Value, field: &'a str) -> impl Iterator<Item = &'a str> {
    list(template, "/spec/containers")
        .iter()
        .map(move |container| text(container, field))
}

fn template(object: &Value) -> &Value {
    object
        .pointer("/spec/template")
        .or_else(|| object.pointer("/spec/jobTemplate/spec/template"))
        .unwrap_or(&Value::Null)
}

pub(super) fn container_names(object: &Value, _now: &str) -> Value {
    joined(containers(template(object), "/name"))
}

pub(super) fn images(object: &Value, _now: &str) -> Value {
    joined(containers(template(object), "/image"))
}

pub(super) fn pod_selector(object: &Value, _now: &str) -> Value {
    selector(object.pointer("/spec/selector"))
}

pub(super) fn ready_of_desired(object: &Value, _now: &str) -> Value {
    json!(format!(
        "{}/{}",
        number(object, "/status/readyReplicas"),
        number(object, "/spec/replicas")
    ))
}

pub(super) fn desired(object: &Value, _now: &str) -> Value {
    json!(number(object, "/spec/replicas"))
}

pub(super) fn current(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/replicas"))
}

pub(super) fn ready(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/readyReplicas"))
}

pub(super) fn updated(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/updatedReplicas"))
}

pub(super) fn available(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/availableReplicas"))
}

pub(super) fn daemon_desired(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/desiredNumberScheduled"))
}

pub(super) fn daemon_current(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/currentNumberScheduled"))
}

pub(super) fn daemon_ready(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/numberReady"))
}

pub(super) fn daemon_updated(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/updatedNumberScheduled"))
}

pub(super) fn daemon_available(object: &Value, _now: &str) -> Value {
    json!(number(object, "/status/numberAvailable"))
}

pub(super) fn node_selector(object: &Value, _now: &str) -> Value {
    json!(labels(template(object).pointer("/spec/nodeSelector")))
}

pub(super) fn job_status(job: &Value, _now: &str) -> Value {
    let status = if is_true(job, "Complete") {
        "Complete"
    } else if is_true(job, "Failed") {
        "Failed"
    } else if !text(job, "/metadata/deletionTimestamp").is_empty() {
        "Terminating"
    } else if is_true(job, "Suspended") {
        "Suspended"
    } else if is_true(job, "FailureTarget") {
        "FailureTarget"
    } else if is_true(job, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    json!(status)
}

pub(super) fn completions(job: &Value, _now: &str) -> Value {
    let succeeded = number(job, "/status/succeeded");
    if let Some(completions) = job.pointer("/spec/completions").and_then(Value::as_i64) {
        return json!(format!("{succeeded}/{completions}"));
    }
    let parallelism = number(job, "/spec/parallelism");
    let wanted = if parallelism > 1 {
        format!("1 of {parallelism}")
    } else {
        "1".to_owned()
    };
    json!(format!("{succeeded}/{wanted}"))
}

pub(super) fn job_duration(job: &Value, now: &str) -> Value {
    let start = text(job, "/status/startTime");
    if start.is_empty() {
        return json!("");
    }
    let end = text_or(job, "/status/completionTime", now);
    json!(age::seconds(start, end).map(age::human).unwrap_or_default())
}

pub(super) fn schedule(job: &Value, _now: &str) -> Value {
    json!(text(job, "/spec/schedule"))
}

pub(super) fn time_zone(job: &Value, _now: &str) -> Value {
    json!(text_or(job, "/spec/timeZone", "<none>"))
}

pub(super) fn suspend(job: &Value, _now: &str) -> Value {
    let is_suspended = job.pointer("/spec/suspend") == Some(&Value::Bool(true));
    json!(if is_suspended { "True" } else { "False" })
}

pub(super) fn active(job: &Value, _now: &str) -> Value {
    json!(list(job, "/status/active").len())
}

pub(super) fn last_schedule(job: &Value, now: &str) -> Value {
    match text(job, "/status/lastScheduleTime") {
        "" => json!("<none>"),
        time => json!(age::since(time, now)),
    }
}

pub(super) fn job_selector(job: &Value, _now: &str) -> Value {
    selector(job.pointer("/spec/jobTemplate/spec/selector"))
}

pub(super) fn controller(revision: &Value, _now: &str) -> Value {
    let owners = list(revision, "/metadata/ownerReferences");
    let owner = owners
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    match owner {
        None => json!("<none>"),
        Some(owner) => {
            let group = text(owner, "/apiVersion")
                .split_once('/')
                .map(|(group, _)| format!(".{group}"))
                .unwrap_or_default();
            json!(format!(
                "{}{group}/{}",
                text(owner, "/kind").to_lowercase(),
                text(owner, "/name")
            ))
        }
    }
}

pub(super) fn revision(object: &Value, _now: &str) -> Value {
    json!(number(object, "/revision"))
}

pub(super) fn data_count(object: &Value, _now: &str) -> Value {
    json!(count(object, "/data") + count(object, "/binaryData"))
}
