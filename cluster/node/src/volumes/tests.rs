use std::os::unix::fs::symlink;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, VolumeProjection};
use serde_json::json;

use super::payload::{Materials, PayloadError};
use super::tree::{FileContent, Payload, write};
use super::*;
use crate::environment::Sources;
use crate::fields::PodFacts;

/// Path, bytes and mode of a file.
type Row<'a> = (&'a str, &'a [u8], u32);

struct Given;

impl Sources for Given {
    fn config_map(&self, name: &str) -> Option<ConfigMap> {
        let map = json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}});
        (name == "settings").then(|| serde_json::from_value(map).unwrap())
    }
    fn secret(&self, name: &str) -> Option<Secret> {
        (name == "keys")
            .then(|| serde_json::from_value(json!({"data": {"token": "czNjcmV0"}})).unwrap())
    }
}

#[track_caller]
fn check(sources: serde_json::Value, expected: Result<&[Row<'_>], PayloadError>) {
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"x": "y"}}}),
    )
    .unwrap();
    let facts = PodFacts {
        pod: &pod,
        pod_ip: [127, 88, 0, 1].into(),
        host_ip: [127, 0, 0, 1].into(),
    };
    let tokens = [("token".to_owned(), "jwt".to_owned())].into();
    let materials = Materials {
        sources: &Given,
        facts,
        capacity: &std::collections::BTreeMap::new(),
        tokens: &tokens,
    };
    let sources: Vec<VolumeProjection> = serde_json::from_value(sources).unwrap();
    let expected = expected.map(|files| {
        let file = |(path, bytes, mode): &(&str, &[u8], u32)| {
            (
                (*path).to_owned(),
                FileContent {
                    bytes: bytes.to_vec(),
                    mode: *mode,
                },
            )
        };
        files.iter().map(file).collect::<Payload>()
    });
    assert_eq!(materials.projected(&sources, 0o644), expected);
}

#[test]
fn projected_volumes_hold_the_files_of_their_sources() {
    check(
        json!([{"configMap": {"name": "settings"}}]),
        Ok(&[
            ("a", b"1", 0o644),
            ("b", b"2", 0o644),
            ("c", &[0, 1], 0o644),
        ]),
    );
    check(
        json!([{"configMap": {"name": "settings", "items": [{"key": "b", "path": "sub/b", "mode": 0o400}]}}]),
        Ok(&[("sub/b", b"2", 0o400)]),
    );
    check(
        json!([{"secret": {"name": "keys"}}, {"serviceAccountToken": {"path": "token"}}]),
        Ok(&[("token", b"jwt", 0o644)]),
    );
    check(
        json!([{"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]),
        Ok(&[("ns", b"shop", 0o644)]),
    );
    check(
        json!([{"secret": {"name": "no", "optional": true}}]),
        Ok(&[]),
    );
    check(
        json!([{"secret": {"name": "no"}}]),
        Err(PayloadError::NoSource {
            kind: "secret",
            name: "no".to_owned(),
        }),
    );
    check(
        json!([{"configMap": {"name": "settings", "items": [{"key": "z", "path": "z"}]}}]),
        Err(PayloadError::NoKey {
            kind: "config",
            key: "z".to_owned(),
        }),
    );
}

fn payload(files: &[(&str, &str)]) -> Payload {
    files
        .iter()
        .map(|(path, text)| {
            (
                (*path).to_owned(),
                FileContent {
                    bytes: text.as_bytes().to_vec(),
                    mode: 0o644,
                },
            )
        })
        .collect()
}

#[test]
fn a_volume_changes_by_one_swap_and_only_when_its_files_do() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("v");
    assert!(write(&volume, &payload(&[("a", "1"), ("d/b", "2")])).unwrap());
    let first = fs::read_link(volume.join("..data")).unwrap();
    assert!(!write(&volume, &payload(&[("a", "1"), ("d/b", "2")])).unwrap());
    assert_eq!(fs::read_to_string(volume.join("d/b")).unwrap(), "2");
    assert!(write(&volume, &payload(&[("a", "3"), ("e", "4")])).unwrap());
    assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
    assert!(!volume.join("d").exists(), "a removed file is gone");
    assert!(!volume.join(first).exists(), "the old set is gone");
    write(&volume, &payload(&[("../x", "1")])).unwrap_err();
}

#[test]
fn a_subpath_stays_in_its_volume() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("v");
    fs::create_dir(&volume).unwrap();
    symlink("/etc", volume.join("out")).unwrap();
    assert!(subpath::resolve(&volume, "a/b").unwrap().is_dir());
    for bad in ["../x", "/etc", "a/../../x", "out", "out/passwd"] {
        subpath::resolve(&volume, bad).unwrap_err();
    }
}

#[test]
fn mounts_below_a_folder_are_found_with_their_spaces() {
    let text = "1 0 0:1 / /data/pods/u1/v\\040x rw - tmpfs t rw\n2 0 0:1 / /data/pods/u10 rw - tmpfs t rw\n";
    assert_eq!(
        mount_points_below(text, Path::new("/data/pods/u1")),
        vec![PathBuf::from("/data/pods/u1/v x")]
    );
}
