//! Which volume a claim gets and what becomes of a volume without its claim; pure.

use std::{path::Path, sync::Arc};

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeSpec, Pod,
};
use kube::{ResourceExt, core::ObjectMeta};

use crate::{cache::Key, pods};

/// The annotation that says that a claim has its volume for good.
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The annotation that says who made a volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Our name in [`PROVISIONED_BY`]; only such volumes are removed with their directories.
const PROVISIONER: &str = "quarterdeck.dev/directory";

/// The next step towards a bound claim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Binding {
    /// Nothing to do now.
    Nothing,
    /// Create this volume.
    Provision(Box<PersistentVolume>),
    /// Write this volume's name into the claim.
    Name(String),
    /// The claim names its volume: say so in its status.
    Status(Arc<PersistentVolume>),
}

/// What becomes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its claim exists.
    Bound,
    /// Its claim is gone, but a Pod still uses it.
    InUse,
    /// Its claim is gone and nobody uses it: directory and object go.
    Reclaim,
    /// Its claim is gone and its policy is to stay.
    Retained,
    /// It is not ours to remove.
    Foreign,
}

/// Decides the next step towards a bound claim.
pub(crate) fn bind(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    folder: &Path,
) -> Binding {
    let spec = claim.spec.clone().unwrap_or_default();
    if claim.metadata.deletion_timestamp.is_some() {
        return Binding::Nothing;
    }
    if let Some(name) = spec.volume_name.as_ref().filter(|name| !name.is_empty()) {
        let found = volumes.iter().find(|volume| volume.name_any() == *name);
        return found.map_or(Binding::Nothing, |volume| {
            Binding::Status(Arc::clone(volume))
        });
    }
    if let Some(ours) = volumes.iter().find(|volume| is_claimed_by(volume, claim)) {
        return Binding::Name(ours.name_any());
    }
    if spec.storage_class_name.as_deref() == Some("") || spec.selector.is_some() {
        return Binding::Nothing;
    }
    let key = Key::of(claim);
    let mut path = folder
        .join(format!("{}-{}", key.namespace, key.name))
        .display()
        .to_string();
    if let Some(taken) = volumes
        .iter()
        .find(|volume| path_of(volume).as_ref() == Some(&path))
    {
        if claim_of(taken).as_ref() == Some(&key) {
            // The last claim of this name is on its way out; the directory must go before the next one starts.
            return Binding::Nothing;
        }
        // `a-b/c` and `a/b-c` would share a directory.
        path = format!("{path}-{}", claim.uid().unwrap_or_default());
    }
    Binding::Provision(Box::new(volume(claim, path)))
}

fn volume(claim: &PersistentVolumeClaim, path: String) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(format!("pvc-{}", claim.uid().unwrap_or_default())),
            annotations: Some([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: spec.resources.and_then(|resources| resources.requests),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: claim.namespace(),
                name: claim.metadata.name.clone(),
                uid: claim.uid(),
                ..ObjectReference::default()
            }),
            host_path: Some(HostPathVolumeSource {
                path,
                type_: Some("DirectoryOrCreate".to_owned()),
            }),
            persistent_volume_reclaim_policy: Some("Delete".to_owned()),
            storage_class_name: spec.storage_class_name,
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// The directory of a volume.
pub(crate) fn path_of(volume: &PersistentVolume) -> Option<String> {
    Some(volume.spec.as_ref()?.host_path.as_ref()?.path.clone())
}

/// The claim that a volume is for.
pub(crate) fn claim_of(volume: &PersistentVolume) -> Option<Key> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(Key::new(
        reference.namespace.clone()?,
        reference.name.clone()?,
    ))
}

fn is_claimed_by(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref())
    else {
        return false;
    };
    let is_same = reference.uid.is_none() || reference.uid == claim.uid();
    is_same
        && claim_of(volume) == Some(Key::of(claim))
        && volume.metadata.deletion_timestamp.is_none()
}

/// Decides what becomes of a volume; `claim` has the name that the volume is for.
pub(crate) fn fate(
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
    pods: &[Arc<Pod>],
) -> Fate {
    if claim.is_some_and(|claim| is_claimed_by(volume, claim)) {
        return Fate::Bound;
    }
    let is_ours = volume.annotations().get(PROVISIONED_BY).map(String::as_str) == Some(PROVISIONER);
    let policy = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    if !is_ours {
        return Fate::Foreign;
    }
    if policy != Some("Delete") {
        return Fate::Retained;
    }
    let name = claim_of(volume).map(|key| key.name);
    if pods
        .iter()
        .any(|pod| !pods::is_finished(pod) && uses(pod, name.as_deref()))
    {
        return Fate::InUse;
    }
    Fate::Reclaim
}

/// Whether the Pod mounts the claim of this name.
fn uses(pod: &Pod, claim: Option<&str>) -> bool {
    claims_of(pod).any(|name| Some(name) == claim)
}

/// The names of the claims that a Pod mounts.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// The claim with the status of a bound one; `None` if it says so already.
pub(crate) fn bound_claim(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Option<PersistentVolumeClaim> {
    if claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Bound")
    {
        return None;
    }
    let mut changed = claim.clone();
    let spec = volume.spec.clone().unwrap_or_default();
    let status = changed.status.get_or_insert_default();
    status.phase = Some("Bound".to_owned());
    status.access_modes = spec.access_modes;
    status.capacity = spec.capacity;
    Some(changed)
}

/// The volume with the status of a bound one; `None` if it says so already.
pub(crate) fn bound_volume(volume: &PersistentVolume) -> Option<PersistentVolume> {
    with_phase(volume, "Bound")
}

/// The volume in this phase; `None` if it is in it.
pub(crate) fn with_phase(volume: &PersistentVolume, phase: &str) -> Option<PersistentVolume> {
    if volume
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some(phase)
    {
        return None;
    }
    let mut changed = volume.clone();
    changed.status.get_or_insert_default().phase = Some(phase.to_owned());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use k8s_openapi::api::core::v1::{
        PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
        PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodStatus, Volume,
    };

    use super::{Binding, Fate, bind, bound_claim, fate, path_of};

    fn claim(namespace: &str, name: &str, uid: &str) -> PersistentVolumeClaim {
        let mut claim = PersistentVolumeClaim {
            spec: Some(PersistentVolumeClaimSpec::default()),
            ..PersistentVolumeClaim::default()
        };
        claim.metadata.namespace = Some(namespace.to_owned());
        claim.metadata.name = Some(name.to_owned());
        claim.metadata.uid = Some(uid.to_owned());
        claim
    }

    fn provision(
        claim: &PersistentVolumeClaim,
        volumes: &[Arc<PersistentVolume>],
    ) -> Arc<PersistentVolume> {
        match bind(claim, volumes, Path::new("/data/volumes")) {
            Binding::Provision(volume) => Arc::new(*volume),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_claim_gets_a_directory_and_then_its_name_and_its_status() {
        let mut claim = claim("n", "home", "u1");
        let volume = provision(&claim, &[]);
        assert_eq!(path_of(&volume).as_deref(), Some("/data/volumes/n-home"));
        let volumes = [Arc::clone(&volume)];
        assert_eq!(
            bind(&claim, &volumes, Path::new("/x")),
            Binding::Name("pvc-u1".to_owned())
        );
        claim.spec.as_mut().unwrap().volume_name = Some("pvc-u1".to_owned());
        assert_eq!(
            bind(&claim, &volumes, Path::new("/x")),
            Binding::Status(Arc::clone(&volume))
        );
        let bound = bound_claim(&claim, &volume).unwrap();
        assert_eq!(bound_claim(&bound, &volume), None);
    }

    #[test]
    fn no_two_claims_share_a_directory() {
        let first = provision(&claim("a-b", "c", "u1"), &[]);
        let second = provision(&claim("a", "b-c", "u2"), &[Arc::clone(&first)]);
        assert_eq!(path_of(&second).as_deref(), Some("/data/volumes/a-b-c-u2"));
        // A new claim of the old name waits until the old directory is gone.
        assert_eq!(
            bind(
                &claim("a-b", "c", "u3"),
                &[first],
                Path::new("/data/volumes")
            ),
            Binding::Nothing
        );
    }

    #[test]
    fn the_empty_class_is_never_provisioned() {
        let mut claim = claim("n", "home", "u1");
        claim.spec.as_mut().unwrap().storage_class_name = Some(String::new());
        assert_eq!(bind(&claim, &[], Path::new("/x")), Binding::Nothing);
    }

    #[track_caller]
    fn check(
        change: impl Fn(&mut PersistentVolume),
        claim_uid: Option<&str>,
        pod_phase: Option<&str>,
        expected: Fate,
    ) {
        let mut volume = PersistentVolume::clone(&provision(&claim("n", "home", "u1"), &[]));
        change(&mut volume);
        let source = PersistentVolumeClaimVolumeSource {
            claim_name: "home".to_owned(),
            read_only: None,
        };
        let pod = |phase: &str| Pod {
            spec: Some(PodSpec {
                volumes: Some(vec![Volume {
                    persistent_volume_claim: Some(source.clone()),
                    ..Volume::default()
                }]),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.to_owned()),
                ..PodStatus::default()
            }),
            ..Pod::default()
        };
        let pods: Vec<Arc<Pod>> = pod_phase
            .map(|phase| Arc::new(pod(phase)))
            .into_iter()
            .collect();
        let claim = claim_uid.map(|uid| claim("n", "home", uid));
        assert_eq!(fate(&volume, claim.as_ref(), &pods), expected);
    }

    #[test]
    fn a_directory_outlives_its_claim_only_while_a_pod_uses_it() {
        let nothing = |_: &mut PersistentVolume| {};
        let retain = |volume: &mut PersistentVolume| {
            volume
                .spec
                .as_mut()
                .unwrap()
                .persistent_volume_reclaim_policy = Some("Retain".to_owned());
        };
        check(nothing, Some("u1"), None, Fate::Bound);
        check(nothing, Some("u2"), None, Fate::Reclaim);
        check(nothing, None, Some("Running"), Fate::InUse);
        check(nothing, None, Some("Succeeded"), Fate::Reclaim);
        check(nothing, None, None, Fate::Reclaim);
        check(retain, None, None, Fate::Retained);
        check(
            |volume| volume.metadata.annotations = None,
            None,
            None,
            Fate::Foreign,
        );
    }
}
