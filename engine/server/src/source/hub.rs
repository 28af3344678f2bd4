//! `hf://ORG/REPO[@REVISION][/FILE]`: a repository on a model hub, whose endpoint the operator names.
//!
//! A whole repository is read at one commit, so that a push meanwhile does not mix two versions.

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;

use super::access::Access;
use super::client::{Client, text_of};
use super::digest::{self, Digest};
use super::download::Remote;
use super::error::FetchError;
use super::listing::{FILES_MAX, Listed, Listing};
use super::name::FileName;
use super::uri::HubPath;

const PAGE_BYTES_MAX: usize = 16 << 20;
const PAGES_MAX: usize = 100;

/// A hub and how to ask it.
pub(super) struct Hub<'a> {
    pub(super) client: &'a Client,
    pub(super) endpoint: Url,
    pub(super) access: Access,
}

#[derive(Deserialize)]
struct Repository {
    sha: String,
}

/// A line of a repository's tree.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Large>,
}

/// What git has only a pointer to.
#[derive(Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

/// The hub's address.
pub(super) fn endpoint(endpoint: Option<&str>) -> Result<Url, FetchError> {
    let Some(endpoint) = endpoint
        .map(|endpoint| endpoint.trim().trim_end_matches('/'))
        .filter(|endpoint| !endpoint.is_empty())
    else {
        let message = "hf:// sources need the hub's address: set HF_ENDPOINT or --hf-endpoint of the engine, or spec.source.endpoint of the Model";
        return Err(FetchError::Setup(message.to_owned()));
    };
    let url: Option<Url> = endpoint.parse().ok();
    url.filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| {
            let message = format!("the hub's address {endpoint:?} is not an http or https address");
            FetchError::Setup(message)
        })
}

impl Hub<'_> {
    /// The address of `parts` under the endpoint.
    fn place(&self, parts: &str) -> Result<Url, FetchError> {
        let text = format!("{}/{parts}", self.endpoint.as_str().trim_end_matches('/'));
        text.parse()
            .map_err(|_| FetchError::Setup(format!("{text:?} is not a valid address")))
    }

    fn file_url(&self, path: &HubPath, revision: &str, file: &FileName) -> Result<Url, FetchError> {
        let mut url = self.place(&format!("{}/resolve/{revision}", path.repository))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            // Each part is escaped here.
            segments.extend(file.as_str().split('/'));
        }
        Ok(url)
    }

    /// One file, of which the hub says more when it is fetched.
    pub(super) fn file(&self, path: &HubPath, file: &FileName) -> Result<Remote, FetchError> {
        let url = self.file_url(path, &path.revision, file)?;
        Ok(Remote::plain(url, self.access.clone()))
    }

    /// All files of a repository.
    pub(super) async fn list(&self, path: &HubPath) -> Result<Listing, FetchError> {
        let commit = self.commit(path).await?;
        let tree = format!(
            "api/models/{}/tree/{commit}?recursive=true&expand=false",
            path.repository
        );
        let (mut next, mut files) = (Some(self.place(&tree)?), Vec::new());
        for _ in 0..PAGES_MAX {
            let Some(url) = next else { break };
            let (headers, lines) = self.page::<Vec<Line>>(&url).await?;
            for line in lines.into_iter().filter(|line| line.kind == "file") {
                files.push(self.listed(path, &commit, line)?);
            }
            if FILES_MAX < files.len() {
                break;
            }
            next = self.next_page(&url, &headers)?;
        }
        Ok(Listing {
            files,
            revision: Some(commit),
        })
    }

    /// The commit that a revision stands for now.
    async fn commit(&self, path: &HubPath) -> Result<String, FetchError> {
        if digest::is_hex(&path.revision, 40) {
            return Ok(path.revision.clone());
        }
        let HubPath {
            repository,
            revision,
            ..
        } = path;
        let url = self.place(&format!("api/models/{repository}/revision/{revision}"))?;
        let (_, found) = self.page::<Repository>(&url).await?;
        if digest::is_hex(&found.sha, 40) {
            return Ok(found.sha);
        }
        let message = format!("the hub names no commit for {repository} at {revision}");
        Err(FetchError::Broken(message))
    }

    async fn page<T: for<'a> Deserialize<'a>>(
        &self,
        url: &Url,
    ) -> Result<(HeaderMap, T), FetchError> {
        let none = HeaderMap::new();
        let asked = self
            .client
            .document(url, &self.access, &none, PAGE_BYTES_MAX);
        let (headers, body) = asked.await?;
        let page = serde_json::from_slice(&body).map_err(|error| {
            let what = super::client::shown(url);
            FetchError::Broken(format!("{what} is not the JSON of a model hub: {error}"))
        })?;
        Ok((headers, page))
    }

    /// The next page, which must be the hub's own: it gets the token.
    fn next_page(&self, url: &Url, headers: &HeaderMap) -> Result<Option<Url>, FetchError> {
        let Some(place) = text_of(headers, LINK.as_str()).and_then(|link| next_of(&link)) else {
            return Ok(None);
        };
        let next = url.join(&place).ok();
        let next = next.filter(|next| next.origin() == self.endpoint.origin());
        next.map(Some)
            .ok_or_else(|| FetchError::Broken("the hub's list goes on at another host".to_owned()))
    }

    fn listed(&self, path: &HubPath, commit: &str, line: Line) -> Result<Listed, FetchError> {
        let name = FileName::try_from(line.path)?;
        let (bytes, digest) = match line.lfs {
            Some(large) => (large.size, Some(Digest::Sha256(digest::parse(&large.oid)?))),
            None => {
                let is_git = digest::is_hex(&line.oid, 40) && line.size <= digest::GIT_BYTES_MAX;
                let oid = line.oid.to_ascii_lowercase();
                (line.size, is_git.then_some(Digest::Git(oid)))
            }
        };
        let remote = Remote {
            url: self.file_url(path, commit, &name)?,
            access: self.access.clone(),
            bytes: Some(bytes),
            digest,
            tag: Some(commit.to_owned()),
        };
        Ok(Listed { name, remote })
    }
}

/// The address with `rel="next"` in a Link header (RFC 8288).
fn next_of(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}
