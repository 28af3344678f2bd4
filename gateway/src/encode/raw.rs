//! Passes bytes on as they come that nothing can be read from, as sounds; one that breaks cuts the client off.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use protocol::openai::ErrorKind;
use tokio::{sync::OwnedSemaphorePermit, time::timeout_at};
use tracing::warn;

use super::{Body, Cut};
use crate::{
    account::{Accounting, Ending},
    endpoint::Lease,
};

/// An answer on its way through; dropping it cancels the upstream and accounts for what was seen.
#[derive(Debug)]
pub(crate) struct Raw {
    /// The content type.
    pub(crate) content_type: HeaderValue,
    /// The bytes that came first.
    pub(crate) first: Bytes,
    /// The rest.
    pub(crate) rest: Incoming,
    /// The place at the endpoint.
    pub(crate) lease: Lease,
    /// The account of the request.
    pub(crate) accounting: Accounting,
    /// How long the upstream may be silent.
    pub(crate) idle: Duration,
    /// When the answer must be complete.
    pub(crate) deadline: Instant,
    /// The request's place in the gateway.
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// The answer that carries the bytes.
pub(crate) fn raw(raw: Raw) -> Response<Body> {
    let content_type = raw.content_type.clone();
    let frames = stream::try_unfold(raw, step);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

async fn step(mut raw: Raw) -> Result<Option<(Frame<Bytes>, Raw)>, Cut> {
    if !raw.first.is_empty() {
        let first = std::mem::take(&mut raw.first);
        return Ok(Some((Frame::data(first), raw)));
    }
    let next_by = raw.deadline.min(Instant::now() + raw.idle);
    match timeout_at(next_by.into(), raw.rest.frame()).await {
        Ok(Some(Ok(frame))) => Ok(Some((frame, raw))),
        Ok(None) => {
            // The ledger holds the request before the client can know that it is complete.
            end(&mut raw, Ending::Complete).await;
            Ok(None)
        }
        Ok(Some(Err(error))) => {
            warn!(upstream = raw.lease.endpoint().url(), %error, "an answer broke off");
            raw.lease.endpoint().note_failure(Instant::now());
            end(&mut raw, Ending::Failed(ErrorKind::UpstreamFailed.status())).await;
            Err(Cut)
        }
        Err(_) => {
            let upstream = raw.lease.endpoint().url();
            warn!(upstream, "an answer was not complete in time");
            end(&mut raw, Ending::Failed(ErrorKind::Timeout.status())).await;
            Err(Cut)
        }
    }
}

async fn end(raw: &mut Raw, ending: Ending) {
    if let Err(error) = raw.accounting.finish(ending).await {
        // The row was there before the first byte; the ledger goes on trying to complete it.
        warn!(%error, "the end of an answer is not in the ledger yet");
    }
}
