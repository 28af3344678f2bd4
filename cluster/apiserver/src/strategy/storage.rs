//! Defaults of volumes, claims and classes.

use serde_json::{Value, json};

use super::set;

/// Fills the defaults of a claim's spec.
pub(super) fn default_claim(spec: Option<&mut Value>) {
    set(spec, "volumeMode", || json!("Filesystem"));
}

/// Fills the defaults of a volume.
pub(super) fn default_volume(object: &mut Value) {
    set(object.get_mut("spec"), "volumeMode", || json!("Filesystem"));
    set(
        object.get_mut("spec"),
        "persistentVolumeReclaimPolicy",
        || json!("Retain"),
    );
    let source = object
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("hostPath"));
    set(source, "type", || json!(""));
}

/// Fills the defaults of a class.
pub(super) fn default_class(object: &mut Value) {
    set(Some(object), "reclaimPolicy", || json!("Delete"));
    set(Some(object), "volumeBindingMode", || json!("Immediate"));
}
