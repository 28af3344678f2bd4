//! `/v1/files`: uploads that are on disk before they are acknowledged, and what was uploaded or made.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as HttpBody, Frame};
use protocol::openai::ErrorKind;
use serde_json::json;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio_util::io::ReaderStream;

use super::{Desk, page};
use crate::{
    decode::multipart::{InvalidForm, PartHead, Piece, Scanner, boundary},
    encode::{self, Body, Cut},
    fault::Fault,
    objects::{File, Objects, Purpose, new_id, unusable},
};

/// How long nothing may come of an upload.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of what a form says beside its file.
const VALUE_BYTES_MAX: usize = 1024;
/// Bytes of a file's name.
const FILENAME_BYTES_MAX: usize = 512;
/// Bytes that are written or read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Seconds that a file may be wanted for.
const LIFE_SECONDS: std::ops::RangeInclusive<i64> = 3600..=2_592_000;

/// An upload as far as it came; what is not kept is removed.
struct Draft {
    id: String,
    path: PathBuf,
    writer: Option<BufWriter<tokio::fs::File>>,
    filename: Option<String>,
    bytes: u64,
    values: Vec<(String, Vec<u8>)>,
    is_kept: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            // A file that was never begun is not there; what cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `POST /v1/files`.
pub(super) async fn upload<B>(
    desk: &Desk<'_>,
    bytes_max: u64,
    headers: &HeaderMap,
    body: B,
) -> Result<Response<Body>, Fault>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let malformed =
        |error: InvalidForm| invalid(format!("The request's form is not valid: {error}."));
    let boundary = boundary(headers.get(header::CONTENT_TYPE)).map_err(malformed)?;
    let bytes_max = bytes_max.min(desk.objects.bytes_per_key_max());
    let too_large = || {
        let message = format!("The request's body is larger than {bytes_max} bytes.");
        Fault::new(ErrorKind::RequestTooLarge, message)
    };
    if bytes_max < body.size_hint().lower() {
        return Err(too_large());
    }
    let mut draft = Draft::new(desk.objects);
    let mut scanner = Scanner::new(&boundary);
    let mut received: u64 = 0;
    let mut body = Box::pin(body);
    loop {
        let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame());
        let frame = frame.await.map_err(|_| {
            invalid(format!(
                "Nothing of the request's body came for {IDLE_TIMEOUT:?}."
            ))
        })?;
        let Some(frame) = frame else { break };
        let ended = |_| invalid("The request's body ended early.".to_owned());
        let Ok(data) = frame.map_err(ended)?.into_data() else {
            continue;
        };
        received = received.saturating_add(data.len() as u64);
        if bytes_max < received {
            return Err(too_large());
        }
        scanner.push(&data).map_err(malformed)?;
        while let Some(piece) = scanner.next() {
            draft.take(piece).await?;
        }
    }
    scanner.finish().map_err(malformed)?;
    let file = draft.finish(desk.objects).await?;
    let file = desk.objects.add_file(&desk.key, file).await?;
    draft.is_kept = true;
    Ok(encode::json(StatusCode::OK, &file))
}

impl Draft {
    fn new(objects: &Arc<Objects>) -> Self {
        let id = new_id("file-");
        Self {
            path: objects.path(&id),
            id,
            writer: None,
            filename: None,
            bytes: 0,
            values: Vec::new(),
            is_kept: false,
        }
    }

    async fn take(&mut self, piece: Piece) -> Result<(), Fault> {
        match piece {
            Piece::Begin(head, _) => self.begin(head).await,
            Piece::Content(content) => match (&mut self.writer, self.values.last_mut()) {
                (Some(writer), _) => {
                    self.bytes = self.bytes.saturating_add(content.len() as u64);
                    let written = writer.write_all(&content).await;
                    written.map_err(|error| unusable(&error))
                }
                (None, Some((name, value))) => {
                    if VALUE_BYTES_MAX < value.len() + content.len() {
                        return Err(invalid(format!("The form's part `{name}` is too long.")));
                    }
                    value.extend_from_slice(&content);
                    Ok(())
                }
                (None, None) => Ok(()),
            },
            Piece::End(_) => match self.writer.take() {
                None => Ok(()),
                Some(mut writer) => {
                    let synced = async {
                        writer.flush().await?;
                        writer.get_ref().sync_all().await
                    };
                    synced.await.map_err(|error| unusable(&error))
                }
            },
        }
    }

    async fn begin(&mut self, head: PartHead) -> Result<(), Fault> {
        let PartHead { name, filename } = head;
        let is_known = self.values.iter().any(|(known, _)| *known == name);
        let is_second_file = name == "file" && self.filename.is_some();
        if is_known || is_second_file {
            return Err(invalid(format!("The form's part `{name}` must come once.")));
        }
        if name != "file" {
            self.values.push((name, Vec::new()));
            return Ok(());
        }
        let filename = filename.unwrap_or_else(|| "file".to_owned());
        if FILENAME_BYTES_MAX < filename.len() {
            return Err(invalid("The file's name is too long.".to_owned()));
        }
        self.filename = Some(filename);
        let file = tokio::fs::File::create_new(&self.path).await;
        let file = file.map_err(|error| unusable(&error))?;
        self.writer = Some(BufWriter::with_capacity(CHUNK_BYTES, file));
        Ok(())
    }

    /// The file, once its content and its name in the folder are on disk.
    async fn finish(&mut self, objects: &Arc<Objects>) -> Result<File, Fault> {
        let missing = |param: &'static str| {
            let message = format!("The parameter `{param}` is missing.");
            Fault::of(ErrorKind::InvalidRequest, param, message)
        };
        let filename = self.filename.take().ok_or_else(|| missing("file"))?;
        let purpose = self.value("purpose")?.ok_or_else(|| missing("purpose"))?;
        let purpose = Purpose::parse(purpose)?;
        let mut file = File::new(self.id.clone(), purpose, filename, self.bytes);
        if let Some(seconds) = self.value("expires_after[seconds]")? {
            let seconds = seconds.parse().ok();
            let seconds: i64 = seconds
                .filter(|seconds| LIFE_SECONDS.contains(seconds))
                .ok_or_else(|| {
                    let message = "The parameter `expires_after[seconds]` must be a number from 3600 to 2592000.";
                    Fault::of(ErrorKind::InvalidRequest, "expires_after", message)
                })?;
            file.expires_at = Some(file.created_at.saturating_add(seconds));
        }
        let folder = tokio::fs::File::open(objects.folder()).await;
        let synced = async { folder?.sync_all().await };
        synced.await.map_err(|error| unusable(&error))?;
        Ok(file)
    }

    fn value(&self, name: &str) -> Result<Option<&str>, Fault> {
        let found = self.values.iter().find(|(known, _)| known == name);
        let text = found
            .map(|(_, value)| std::str::from_utf8(value))
            .transpose();
        text.map_err(|_| invalid(format!("The form's part `{name}` is no text.")))
    }
}

/// `GET /v1/files`.
pub(super) async fn list(desk: &Desk<'_>) -> Result<Response<Body>, Fault> {
    let purpose = desk.parameter("purpose").map(str::to_owned);
    let wanted = desk.page(crate::objects::PAGE_MAX)?;
    let (files, has_more) = desk.objects.files(&desk.key, purpose, wanted).await?;
    Ok(page(files, has_more, |file| &file.id))
}

/// `GET /v1/files/ID`.
pub(super) async fn get(desk: &Desk<'_>, id: &str) -> Result<Response<Body>, Fault> {
    let file = desk.objects.file(&desk.key, id).await?;
    Ok(encode::json(StatusCode::OK, &file))
}

/// `DELETE /v1/files/ID`.
pub(super) async fn delete(desk: &Desk<'_>, id: &str) -> Result<Response<Body>, Fault> {
    desk.objects.delete_file(&desk.key, id).await?;
    let deleted = json!({"id": id, "object": "file", "deleted": true});
    Ok(encode::json(StatusCode::OK, &deleted))
}

/// `GET /v1/files/ID/content`.
pub(super) async fn content(desk: &Desk<'_>, id: &str) -> Result<Response<Body>, Fault> {
    let file = desk.objects.file(&desk.key, id).await?;
    let content = tokio::fs::File::open(desk.objects.path(&file.id)).await;
    let content = content.map_err(|error| unusable(&error))?;
    let frames = ReaderStream::with_capacity(content, CHUNK_BYTES)
        .map_ok(Frame::data)
        .map_err(|_| Cut);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.bytes));
    Ok(response)
}

fn invalid(message: String) -> Fault {
    Fault::new(ErrorKind::InvalidRequest, message)
}
