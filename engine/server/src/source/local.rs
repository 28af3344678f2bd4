//! `file:///PATH`: weights that are on this machine already; they stay where they are.

use std::fs;
use std::path::Path;

use super::choose::choose;
use super::error::FetchError;
use super::listing::explain;
use super::manifest::{Manifest, Origin};
use super::name::FileName;
use super::{Fetched, Progress};

const FILES_MAX: usize = 10_000;

/// Checks that the model is there and is the one that is wanted.
pub(super) async fn check(
    path: &Path,
    sha256: Option<&str>,
    progress: Progress<'_>,
) -> Result<Fetched, FetchError> {
    let missing = || FetchError::NotFound {
        what: format!("the file or folder {}", path.display()),
        advice: "put the weights there, or correct the path; it is looked for again".to_owned(),
    };
    if path.is_dir() {
        return check_folder(path, sha256, progress).await;
    }
    if !path.is_file() {
        return Err(missing());
    }
    if let Some(expected) = sha256 {
        let digests = super::manifest::digests_of(vec![path.to_owned()], progress).await?;
        let got = digests.into_iter().next().ok_or_else(missing)?;
        got.check(&super::digest::Digest::Sha256(expected.to_owned()))?;
    }
    Ok(Fetched::File(path.to_owned()))
}

async fn check_folder(
    folder: &Path,
    sha256: Option<&str>,
    progress: Progress<'_>,
) -> Result<Fetched, FetchError> {
    let what = format!("the folder {}", folder.display());
    let choice = choose(&names_in(folder)?).map_err(|unclear| explain(&unclear, &what))?;
    if sha256.is_some() {
        let manifest = Manifest::of(folder, &choice, &Origin::default(), progress).await?;
        manifest.check(sha256)?;
    }
    Ok(choice.fetched(folder))
}

/// The files of a folder and of its folders; links to files count as files.
fn names_in(folder: &Path) -> Result<Vec<FileName>, FetchError> {
    let (mut names, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(inner) = folders.pop() {
        let place = folder.join(&inner);
        let fail = |source| FetchError::cache(&place, source);
        for entry in fs::read_dir(&place).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Some(last) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let separator = if inner.is_empty() { "" } else { "/" };
            // A name that we would refuse elsewhere is none of the model's.
            let Ok(name) = FileName::try_from(format!("{inner}{separator}{last}")) else {
                continue;
            };
            if entry.file_type().map_err(fail)?.is_dir() {
                folders.push(name.as_str().to_owned());
            } else if entry.path().is_file() {
                names.push(name);
            }
            if FILES_MAX < names.len() + folders.len() {
                let message = format!("{} has too many files to be a model", folder.display());
                return Err(FetchError::Broken(message));
            }
        }
    }
    names.sort();
    Ok(names)
}
