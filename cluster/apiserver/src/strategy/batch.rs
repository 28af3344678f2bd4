//! Defaults of jobs, and the labels by which a job knows its own pods.

use serde_json::{Value, json};

use super::{pod, set};

/// Fills the defaults of a job.
pub(super) fn default_job(spec: Option<&mut Value>) {
    let Some(spec) = spec.filter(|spec| spec.is_object()) else {
        return;
    };
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        spec["completions"] = json!(1);
    }
    set(Some(spec), "parallelism", || json!(1));
    set(Some(spec), "backoffLimit", || json!(6));
    set(Some(spec), "completionMode", || json!("NonIndexed"));
    set(Some(spec), "suspend", || json!(false));
    set(Some(spec), "manualSelector", || json!(false));
    set(Some(spec), "podReplacementPolicy", || {
        json!("TerminatingOrFailed")
    });
    pod::default_template(spec.get_mut("template"));
}

/// Fills the defaults of a cron job.
pub(super) fn default_cron_job(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    set(Some(spec), "concurrencyPolicy", || json!("Allow"));
    set(Some(spec), "suspend", || json!(false));
    set(Some(spec), "successfulJobsHistoryLimit", || json!(3));
    set(Some(spec), "failedJobsHistoryLimit", || json!(1));
    let template = spec["jobTemplate"]["spec"].get_mut("template");
    pod::default_template(template);
}

/// Labels the pods of a new job with its uid and selects them by it.
pub(super) fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (
        job["metadata"]["uid"].clone(),
        job["metadata"]["name"].clone(),
    );
    let Some(spec) = job.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    if spec.get("selector").is_none() {
        spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    }
    set(Some(spec), "template", || json!({}));
    set(spec.get_mut("template"), "metadata", || json!({}));
    set(spec["template"].get_mut("metadata"), "labels", || json!({}));
    let Some(labels) = spec["template"]["metadata"]["labels"].as_object_mut() else {
        return;
    };
    for key in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
        labels.insert(key.to_owned(), uid.clone());
    }
    for key in ["batch.kubernetes.io/job-name", "job-name"] {
        labels.insert(key.to_owned(), name.clone());
    }
    let labels = Value::Object(labels.clone());
    set(job.get_mut("metadata"), "labels", || labels);
}
