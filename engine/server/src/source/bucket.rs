//! `s3://BUCKET/KEY`: an object of an S3-compatible store, or a folder of them, addressed by path.

pub(super) mod listing;
pub(super) mod sign;

use std::sync::Arc;

use jiff::Timestamp;
use protocol::secret::SecretString;
use reqwest::Url;
use reqwest::header::HeaderMap;

use super::access::Access;
use super::client::Client;
use super::download::Remote;
use super::error::FetchError;
use super::listing::{FILES_MAX, Listed, Listing};
use super::name::FileName;
use super::uri::BucketPath;

use listing::Page;
use sign::{Signer, encode};

const PAGE_BYTES_MAX: usize = 16 << 20;
const PAGES_MAX: usize = 100;
const REGION_DEFAULT: &str = "us-east-1";

/// How to reach an object store.
#[derive(Debug, Clone, Default)]
pub struct BucketOptions {
    /// The store's address, as <https://s3.example>.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: Option<String>,
    /// The key's name; without it the store is asked as anybody.
    pub access_key_id: Option<String>,
    /// The key.
    pub secret_access_key: Option<SecretString>,
    /// What temporary keys come with.
    pub session_token: Option<SecretString>,
}

/// A bucket of a store.
pub(super) struct Bucket<'a> {
    client: &'a Client,
    path: &'a BucketPath,
    /// The bucket's address without a slash at the end.
    base: String,
    access: Access,
}

impl<'a> Bucket<'a> {
    pub(super) fn new(
        client: &'a Client,
        path: &'a BucketPath,
        options: &BucketOptions,
    ) -> Result<Self, FetchError> {
        let filled = |text: &Option<String>| {
            let text = text
                .as_deref()
                .map(str::trim)
                .filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let Some(endpoint) = filled(&options.endpoint) else {
            let message = "s3:// sources need the store's address: set AWS_ENDPOINT_URL or --s3-endpoint of the engine, or spec.source.endpoint of the Model";
            return Err(FetchError::Setup(message.to_owned()));
        };
        let is_known = endpoint.starts_with("https://") || endpoint.starts_with("http://");
        if !is_known || endpoint.parse::<Url>().is_err() {
            let message =
                format!("the store's address {endpoint:?} is not an http or https address");
            return Err(FetchError::Setup(message));
        }
        let access = match (filled(&options.access_key_id), &options.secret_access_key) {
            (None, None) => Access::Open,
            (Some(id), Some(secret)) => Access::Signed(Arc::new(Signer {
                id,
                secret: SecretString::new(secret.expose().trim().to_owned()),
                session: options.session_token.clone(),
                region: filled(&options.region).unwrap_or_else(|| REGION_DEFAULT.to_owned()),
            })),
            _ => {
                let message =
                    "s3:// sources need both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or none";
                return Err(FetchError::Setup(message.to_owned()));
            }
        };
        Ok(Self {
            client,
            path,
            base: format!("{}/{}", endpoint.trim_end_matches('/'), path.bucket),
            access,
        })
    }

    /// The object that the address names, if it says so itself; no right to list is needed then.
    pub(super) fn object(&self) -> Result<Option<Remote>, FetchError> {
        if !self.path.key.ends_with(".gguf") {
            return Ok(None);
        }
        let url = self.url_of(&self.path.key)?;
        Ok(Some(Remote::plain(url, self.access.clone())))
    }

    fn url_of(&self, key: &str) -> Result<Url, FetchError> {
        let text = format!("{}/{}", self.base, encode(key, true));
        text.parse()
            .map_err(|_| FetchError::Setup(format!("{text:?} is not a valid address")))
    }

    /// The objects under the address, named without its prefix.
    pub(super) async fn list(&self) -> Result<Listing, FetchError> {
        let prefix = match self.path.key.as_str() {
            "" => String::new(),
            key => format!("{key}/"),
        };
        let (mut token, mut files): (Option<String>, _) = (None, Vec::new());
        for _ in 0..PAGES_MAX {
            let page = self.page(&prefix, token.as_deref()).await?;
            for object in page.objects {
                let inner = object.key.strip_prefix(&prefix).unwrap_or(&object.key);
                // A name that ends with a slash is how consoles make an empty folder.
                if inner.is_empty() || inner.ends_with('/') {
                    continue;
                }
                let remote = Remote {
                    url: self.url_of(&object.key)?,
                    access: self.access.clone(),
                    bytes: Some(object.bytes),
                    digest: None,
                    tag: object.tag,
                };
                let name = FileName::try_from(inner)?;
                files.push(Listed { name, remote });
            }
            token = page.next;
            if token.is_none() || FILES_MAX < files.len() {
                break;
            }
        }
        Ok(Listing {
            files,
            revision: None,
        })
    }

    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page, FetchError> {
        let mut query = Vec::new();
        if let Some(token) = token {
            query.push(format!("continuation-token={}", encode(token, false)));
        }
        query.push("list-type=2".to_owned());
        query.push(format!("prefix={}", encode(prefix, false)));
        let text = format!("{}?{}", self.base, query.join("&"));
        let url: Url = text
            .parse()
            .map_err(|_| FetchError::Setup(format!("{:?} is not a valid address", self.base)))?;
        let none = HeaderMap::new();
        let asked = self
            .client
            .document(&url, &self.access, &none, PAGE_BYTES_MAX);
        let (_, body) = asked.await?;
        listing::parse(&String::from_utf8_lossy(&body)).ok_or_else(|| {
            let what = super::client::shown(&url);
            FetchError::Broken(format!("{what} is not the list of a bucket"))
        })
    }
}

/// The time as signatures have it.
fn stamp(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}
