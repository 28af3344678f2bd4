//! An artifact's layers become files: plain ones as they come, archives by unpacking.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio::task;

use super::cache::Entry;
use super::choose::{Choice, choose, is_candidate};
use super::client::Client;
use super::disk;
use super::error::FetchError;
use super::fetch::{Wanted, fetch_all, forget};
use super::listing::explain;
use super::manifest::{Origin, digests_of};
use super::name::FileName;
use super::registry::{Content, Layer, Packing, Registry};
use super::tarball;
use super::{Phase, Progress};

/// An archive that has come.
struct Blob {
    layer: Layer,
    packing: Packing,
    place: PathBuf,
}

/// Fetches what an engine needs of an artifact and returns what it is and where it is from.
pub(super) async fn fetch(
    client: &Client,
    registry: &Registry<'_>,
    entry: &Entry,
    uri: &str,
    progress: Progress<'_>,
) -> Result<(Choice, Origin), FetchError> {
    let (layers, revision) = registry.layers().await?;
    let (mut files, mut blobs) = (BTreeMap::new(), Vec::new());
    for layer in layers {
        match layer.content.clone() {
            // A later layer replaces the file of an earlier one.
            Content::File(name) if is_candidate(&name) => {
                files.insert(name, layer);
            }
            Content::Archive(packing) => {
                let place = entry.blobs().join(&layer.hex);
                blobs.push(Blob {
                    layer,
                    packing,
                    place,
                });
            }
            Content::File(_) | Content::Other => {}
        }
    }
    if blobs.is_empty() {
        // Without archives everything is known beforehand, and only what is needed comes.
        let names: Vec<FileName> = files.keys().cloned().collect();
        let choice = choose(&names).map_err(|unclear| explain(&unclear, uri))?;
        let chosen: Vec<FileName> = choice.names().into_iter().cloned().collect();
        files.retain(|name, _| chosen.contains(name));
    }
    let places = files.iter().map(|(name, layer)| Wanted {
        remote: layer.remote.clone(),
        place: name.under(&entry.files()),
    });
    let archives = blobs.iter().map(|blob| Wanted {
        remote: blob.layer.remote.clone(),
        place: blob.place.clone(),
    });
    let wanted: Vec<Wanted> = places.chain(archives).collect();
    fetch_all(client, entry, &wanted, progress).await?;
    let mut names: Vec<FileName> = files.keys().cloned().collect();
    names.extend(unpack_all(blobs, entry, progress).await?);
    names.sort();
    names.dedup();
    let choice = choose(&names).map_err(|unclear| explain(&unclear, uri))?;
    let expected = files
        .into_iter()
        .filter_map(|(name, layer)| Some((name, layer.remote.digest?)));
    let origin = Origin {
        source: uri.to_owned(),
        revision: Some(revision),
        expected: expected.collect(),
    };
    Ok((choice, origin))
}

/// Checks archives and unpacks them in their order; returns the names of the files that came out.
async fn unpack_all(
    blobs: Vec<Blob>,
    entry: &Entry,
    progress: Progress<'_>,
) -> Result<Vec<FileName>, FetchError> {
    if blobs.is_empty() {
        return Ok(Vec::new());
    }
    let places = blobs.iter().map(|blob| blob.place.clone()).collect();
    let digests = digests_of(places, progress).await?;
    for (blob, digests) in blobs.iter().zip(&digests) {
        let checked = blob
            .layer
            .remote
            .digest
            .as_ref()
            .map(|digest| digests.check(digest));
        if let Some(Err(error)) = checked {
            forget(entry, &blob.place);
            return Err(error);
        }
    }
    let bytes = digests.iter().map(|digests| digests.bytes).sum();
    disk::check_room(entry.partial(), bytes)?;
    let (folder, (sender, mut steps)) = (entry.files(), mpsc::unbounded_channel());
    let unpacked = task::spawn_blocking(move || {
        fs::create_dir_all(&folder).map_err(|source| FetchError::cache(&folder, source))?;
        let mut names = Vec::new();
        for Blob { packing, place, .. } in &blobs {
            let report = |done: u64| {
                // Nobody listens any more if the fetch was dropped.
                let _ = sender.send(done);
            };
            names.extend(tarball::unpack(place, *packing, &folder, &report)?);
        }
        Ok(names)
    });
    while let Some(done) = steps.recv().await {
        progress(Phase::Verifying, done, None);
    }
    unpacked.await.unwrap_or_else(|error| {
        Err(FetchError::Setup(format!(
            "unpacking the layers failed: {error}"
        )))
    })
}
