//! The Pods and claims of a StatefulSet; pure.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{
        PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
    },
};
use kube::ResourceExt;

use crate::{owners, pods};

/// The label that names a Pod's revision.
pub(super) const REVISION: &str = "controller-revision-hash";
/// The label that names the Pod, so that a Service can select one.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label that carries the ordinal.
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a Pod's name; `None` if the name is none of the set's.
pub(super) fn ordinal_of(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
    let is_canonical = ordinal == "0" || !ordinal.starts_with(['0', '+']);
    if Some(parent) != set.metadata.name.as_deref() || !is_canonical {
        return None;
    }
    ordinal.parse().ok().filter(|ordinal| 0 <= *ordinal)
}

/// The Pod of an ordinal, from the template of a revision.
pub(super) fn pod(
    set: &StatefulSet,
    template: &PodTemplateSpec,
    ordinal: i32,
    revision: &str,
) -> Pod {
    let namespace = set.namespace().unwrap_or_default();
    let mut pod = pods::from_template(template, &namespace, owners::controller_reference(set));
    let name = format!("{}-{ordinal}", set.name_any());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION.to_owned(), revision.to_owned());
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    pod.metadata.name = Some(name.clone());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set
        .spec
        .service_name
        .clone()
        .filter(|service| !service.is_empty());
    let volumes = spec.volumes.get_or_insert_default();
    for template in set.spec.volume_claim_templates.iter().flatten() {
        let volume_name = template.name_any();
        volumes.retain(|volume| volume.name != volume_name);
        let source = PersistentVolumeClaimVolumeSource {
            claim_name: format!("{volume_name}-{name}"),
            read_only: None,
        };
        volumes.push(Volume {
            name: volume_name,
            persistent_volume_claim: Some(source),
            ..Volume::default()
        });
    }
    pod
}

/// The claims that a Pod of the set needs.
pub(super) fn claims(set: &StatefulSet, pod: &Pod) -> Vec<PersistentVolumeClaim> {
    let claim = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(format!("{}-{}", template.name_any(), pod.name_any()));
        claim.metadata.namespace = set.namespace();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
        claim.status = None;
        claim
    };
    set.spec
        .volume_claim_templates
        .iter()
        .flatten()
        .map(claim)
        .collect()
}
