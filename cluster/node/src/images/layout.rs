//! Images in an OCI layout folder of this machine.

use std::fs;
use std::path::Path;

use oci_client::manifest::{OciDescriptor, OciImageManifest};
use serde::Deserialize;

use super::ImageError;
use super::store::{Found, hex_of, verified};

const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
/// An index may name an index, but not for ever.
const DEPTH_MAX: usize = 4;

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(flatten)]
    descriptor: OciDescriptor,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// Finds the manifest for a tag and this machine.
pub(super) fn find(layout: &Path, tag: Option<&str>) -> Result<Found, ImageError> {
    let path = layout.join("index.json");
    let text = fs::read(&path)
        .map_err(|error| ImageError::pull(format!("cannot read {}: {error}", path.display())))?;
    let index: Index = parse(&text, &path)?;
    let mut entry = by_tag(index.manifests, tag, layout)?;
    let blobs = layout.join("blobs");
    for _ in 0..DEPTH_MAX {
        let path = verified(&blobs, &entry.descriptor)?;
        let text = fs::read(&path).map_err(|error| {
            ImageError::pull(format!("cannot read {}: {error}", path.display()))
        })?;
        if entry.descriptor.media_type.contains("index")
            || entry.descriptor.media_type.contains("manifest.list")
        {
            entry = by_platform(parse::<Index>(&text, &path)?.manifests, layout)?;
            continue;
        }
        let manifest: OciImageManifest = parse(&text, &path)?;
        hex_of(&entry.descriptor.digest)?;
        return Ok(Found {
            digest: entry.descriptor.digest,
            manifest,
            blobs,
        });
    }
    Err(ImageError::pull(format!(
        "the index in {} is nested too deeply",
        layout.display()
    )))
}

fn by_tag(entries: Vec<Entry>, tag: Option<&str>, layout: &Path) -> Result<Entry, ImageError> {
    let name = |entry: &Entry| {
        entry
            .descriptor
            .annotations
            .as_ref()
            .and_then(|map| map.get(REFERENCE_NAME))
            .cloned()
    };
    let Some(tag) = tag else {
        return match <[Entry; 1]>::try_from(entries) {
            Ok([only]) => Ok(only),
            Err(entries) if entries.iter().all(|entry| entry.platform.is_some()) => {
                by_platform(entries, layout)
            }
            Err(_) => Err(ImageError::pull(format!(
                "{} holds several images: name a tag",
                layout.display()
            ))),
        };
    };
    let found = entries.into_iter().find(|entry| {
        name(entry).is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
    });
    found.ok_or_else(|| {
        ImageError::pull(format!(
            "{} has no image with the tag {tag}",
            layout.display()
        ))
    })
}

fn by_platform(entries: Vec<Entry>, layout: &Path) -> Result<Entry, ImageError> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |entry: &Entry| {
        entry
            .platform
            .as_ref()
            .is_none_or(|platform| platform.os == "linux" && platform.architecture == architecture)
    };
    let found = entries.into_iter().find(fits);
    found.ok_or_else(|| {
        ImageError::pull(format!(
            "{} has no image for linux/{architecture}",
            layout.display()
        ))
    })
}

fn parse<T: serde::de::DeserializeOwned>(text: &[u8], path: &Path) -> Result<T, ImageError> {
    serde_json::from_slice(text)
        .map_err(|error| ImageError::pull(format!("{} is malformed: {error}", path.display())))
}
