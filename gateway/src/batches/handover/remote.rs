//! The files and batches of a provider of OpenAI's API, asked one request at a time.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::io::ReaderStream;

use crate::{
    call::Operation,
    forward::retry_after::retry_after,
    gateway::Gateway,
    identity::NoToken,
    objects::Handover,
    table::{Route, Target},
};

/// How long the provider may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a file may take on its way to the provider.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(1800);
/// Bytes of an answer that is no file.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What separates the parts of a form.
const BOUNDARY: &str = "quarterdeck-7d5f3c1b9a8e4602";
/// The entry of a batch's metadata by which it is found again.
const TAG: &str = "quarterdeck";
/// Batches of a page, and pages that are looked through for one.
const PAGE: usize = 100;
const PAGES_MAX: usize = 20;

/// A provider, by a target of a route.
pub(super) struct Remote {
    gateway: Arc<Gateway>,
    /// The route.
    pub(super) route: Arc<Route>,
    /// The place of the target in it.
    pub(super) place: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// It may be asked again, after this time if it said one.
    Later(Option<Duration>, String),
    /// It refuses, with this status and body.
    Refused(u16, Bytes),
}

/// A batch of the provider's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RemoteBatch {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) output_file_id: Option<String>,
    pub(super) error_file_id: Option<String>,
    errors: Option<Value>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct List {
    data: Vec<RemoteBatch>,
    #[serde(default)]
    has_more: bool,
}

impl RemoteBatch {
    /// Whether nothing of it changes any more.
    pub(super) fn has_ended(&self) -> bool {
        matches!(
            &*self.status,
            "completed" | "failed" | "expired" | "cancelled"
        )
    }

    /// Why the provider did not begin with it, in its words.
    pub(super) fn reason(&self) -> Option<&str> {
        let errors = self.errors.as_ref()?;
        errors["data"][0]["message"].as_str()
    }
}

impl Failed {
    fn later(reason: &str) -> Self {
        Self::Later(None, reason.to_owned())
    }
}

impl Remote {
    /// The provider that a handover names.
    ///
    /// # Errors
    /// [`Failed`]: its route or its target is gone; it may come back.
    pub(super) fn of(gateway: &Arc<Gateway>, handover: &Handover) -> Result<Self, Failed> {
        let gone = || Failed::later("the route or its target is gone");
        let table = gateway.table().map_err(|_| gone())?;
        let mut routes = table.routes.iter();
        let route = routes.find(|route| route.id == handover.route);
        let route = route.ok_or_else(gone)?;
        let mut targets = route.targets.iter();
        let place = targets.position(|target| target.name == handover.target);
        Ok(Self {
            gateway: Arc::clone(gateway),
            route: Arc::clone(route),
            place: place.ok_or_else(gone)?,
        })
    }

    fn target(&self) -> Result<&Target, Failed> {
        let target = self.route.targets.get(self.place);
        target.ok_or_else(|| Failed::later("the target is gone"))
    }

    /// Sends a file of lines; what the provider calls it.
    ///
    /// # Errors
    /// [`Failed`]: the provider has it not, or nobody knows.
    pub(super) async fn upload(&self, path: &Path, name: &str) -> Result<String, Failed> {
        let unread = |error: io::Error| Failed::Later(None, format!("reading the lines: {error}"));
        let file = tokio::fs::File::open(path).await.map_err(unread)?;
        let bytes = file.metadata().await.map_err(unread)?.len();
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/jsonl\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let length = bytes + (head.len() + tail.len()) as u64;
        let piece = |text: String| stream::once(async { Ok::<_, io::Error>(Bytes::from(text)) });
        let pieces = piece(head)
            .chain(ReaderStream::new(file))
            .chain(piece(tail));
        let body = StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync();
        let mut request = self.request(Method::POST, "/files", body)?;
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length.into());
        if let Ok(content_type) = content_type.parse() {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        self.seal(&mut request).await?;
        let asking = self.gateway.uploads().request(request);
        let response = tokio::time::timeout(UPLOAD_TIMEOUT, asking).await;
        let response = response.map_err(|_| Failed::later("the upload took too long"))?;
        let response = response.map_err(|_| Failed::later("the upload broke"))?;
        let named: Named = read(response).await?;
        Ok(named.id)
    }

    /// Makes a batch of a file.
    ///
    /// # Errors
    /// [`Failed`]: there is none, or nobody knows.
    pub(super) async fn create(
        &self,
        file: &str,
        endpoint: &str,
        tag: &str,
    ) -> Result<RemoteBatch, Failed> {
        let endpoint = self.target()?.provider.batch_endpoint(endpoint);
        let body = json!({
            "input_file_id": file, "endpoint": endpoint, "completion_window": "24h", "metadata": {TAG: tag},
        });
        let response = self.ask(Method::POST, "/batches", Some(&body)).await?;
        let batch: RemoteBatch = read(response).await?;
        match batch.id.is_empty() {
            true => Err(Failed::later("the provider's batch has no id")),
            false => Ok(batch),
        }
    }

    /// Looks for a batch that was made with this tag.
    ///
    /// # Errors
    /// [`Failed`]: nobody knows.
    pub(super) async fn find(&self, tag: &str) -> Result<Option<RemoteBatch>, Failed> {
        let mut path = format!("/batches?limit={PAGE}");
        for _ in 0..PAGES_MAX {
            let list: List = read(self.ask(Method::GET, &path, None).await?).await?;
            let is_ours = |batch: &&RemoteBatch| {
                let metadata = batch.metadata.as_ref();
                let found = metadata.and_then(|metadata| metadata.get(TAG)?.as_str());
                found == Some(tag)
            };
            if let Some(batch) = list.data.iter().find(is_ours) {
                return Ok(Some(batch.clone()));
            }
            let Some(last) = list.data.last().filter(|_| list.has_more) else {
                break;
            };
            path = format!("/batches?limit={PAGE}&after={}", segment(&last.id)?);
        }
        Ok(None)
    }

    /// How far a batch is, and when the provider wants to be asked again.
    ///
    /// # Errors
    /// [`Failed`]: nobody knows.
    pub(super) async fn get(&self, id: &str) -> Result<(RemoteBatch, Option<Duration>), Failed> {
        let path = format!("/batches/{}", segment(id)?);
        let response = self.ask(Method::GET, &path, None).await?;
        let wait = retry_after(response.headers(), Timestamp::now());
        let batch: RemoteBatch = read(response).await?;
        match batch.status.is_empty() {
            true => Err(Failed::later("the provider's batch has no status")),
            false => Ok((batch, wait)),
        }
    }

    /// Has a batch end early.
    ///
    /// # Errors
    /// [`Failed`]: it may go on.
    pub(super) async fn cancel(&self, id: &str) -> Result<(), Failed> {
        let path = format!("/batches/{}/cancel", segment(id)?);
        self.ask(Method::POST, &path, Some(&json!({}))).await?;
        Ok(())
    }

    /// The content of a file.
    ///
    /// # Errors
    /// [`Failed`]: there is none now.
    pub(super) async fn content(&self, file: &str) -> Result<Incoming, Failed> {
        let path = format!("/files/{}/content", segment(file)?);
        Ok(self.ask(Method::GET, &path, None).await?.into_body())
    }

    /// Removes a file; one that is left is the provider's to remove.
    pub(super) async fn delete(&self, file: &str) {
        if let Ok(name) = segment(file) {
            // The answers are here; nothing depends on it.
            let _ = self
                .ask(Method::DELETE, &format!("/files/{name}"), None)
                .await;
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failed> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = self.request(method, path, Full::new(Bytes::from(body)))?;
        self.seal(&mut request).await?;
        let asking = self.gateway.upstream().request(request);
        let response = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
        let response = response.map_err(|_| Failed::later("the provider took too long"))?;
        let response = response.map_err(|_| Failed::later("the provider cannot be reached"))?;
        refused(response).await
    }

    fn request<B>(&self, method: Method, path: &str, body: B) -> Result<Request<B>, Failed> {
        let target = self.target()?;
        let provider = &target.provider;
        let uri: Option<Uri> = target
            .endpoints
            .first()
            .and_then(|endpoint| provider.batches_uri(endpoint, path));
        let uri = uri.ok_or_else(|| Failed::later("the provider has no address for batches"))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT_ENCODING, "identity")
            .body(body);
        let mut request = request.map_err(|_| Failed::later("the address makes no request"))?;
        provider.authorize(Operation::Chat, &HeaderMap::new(), request.headers_mut());
        Ok(request)
    }

    async fn seal<B>(&self, request: &mut Request<B>) -> Result<(), Failed> {
        let (provider, upstream) = (&self.target()?.provider, self.gateway.upstream());
        let sealed = provider.seal(request, &Bytes::new(), upstream).await;
        sealed.map_err(|why| match why {
            NoToken::Refused(reason) | NoToken::Unreachable(reason) => Failed::Later(None, reason),
        })
    }
}

/// An id as a part of a path: the provider's, who must not lead the gateway elsewhere.
fn segment(id: &str) -> Result<&str, Failed> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    match !id.is_empty() && id.bytes().all(is_plain) && !id.starts_with('.') {
        true => Ok(id),
        false => Err(Failed::later("the provider's id is none")),
    }
}

/// An answer that is no refusal.
async fn refused(response: Response<Incoming>) -> Result<Response<Incoming>, Failed> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let wait = retry_after(response.headers(), Timestamp::now());
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    let body = tokio::time::timeout(ANSWER_TIMEOUT, body).await;
    // What else there is to say of an error whose body breaks is its status.
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    let is_final =
        status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 408 | 409 | 429);
    match is_final {
        true => Err(Failed::Refused(status.as_u16(), body)),
        false => Err(Failed::Later(wait, format!("status {status}"))),
    }
}

async fn read<T: for<'de> Deserialize<'de>>(response: Response<Incoming>) -> Result<T, Failed> {
    let response = refused(response).await?;
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    let body = tokio::time::timeout(ANSWER_TIMEOUT, body).await;
    let Ok(Ok(body)) = body else {
        return Err(Failed::later("the provider's answer broke"));
    };
    serde_json::from_slice(&body.to_bytes())
        .map_err(|_| Failed::later("the provider's answer is not what its API says"))
}
