//! One request of another gateway, from its head to the end of its answer.
//!
//! It runs as its messages come and replies are taken, in the task of its connection: who does not read what it is told is
//! not heard any further, and who goes away takes along all that the request holds.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Collected, StreamBody};
use hyper::body::{Body as HttpBody, Frame};
use protocol::openai::ErrorKind;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::{
    grpc::{Messages, Status, encode},
    head::{Head, Modes, Subset, served, subset, value_of},
    message::{
        BodyMode, HttpBody as Piece, HttpHeaders, Metadata, ProcessingRequest, ProcessingResponse,
        ProtocolConfiguration, Shown, Told,
    },
    progress::Progress,
    reply::{self, End, Way},
};
use crate::{call::Surface, decode::Asked, encode, fault::Fault, gateway::Gateway};

/// How long a call may be silent before it shows a head, and how long a body may take: a place is held meanwhile.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a message beside the body that it may hold.
const MESSAGE_OVERHEAD_BYTES: usize = 1 << 20;

/// The replies to a call.
pub(super) fn run<B>(
    gateway: Arc<Gateway>,
    body: B,
) -> impl HttpBody<Data = Bytes, Error = Infallible> + Send + 'static
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Send,
{
    let bytes_max = gateway.body_bytes_max();
    let session = Session {
        messages: Messages::new(body, bytes_max.saturating_add(MESSAGE_OVERHEAD_BYTES)),
        gateway,
        modes: Modes::of(None),
        state: State::Head,
        replies: VecDeque::new(),
        status: None,
        is_over: false,
    };
    let frames = stream::unfold(session, |mut session| async move {
        let frame = session.next().await?;
        Some((Ok(frame), session))
    });
    StreamBody::new(frames)
}

/// How far a request is.
enum State {
    /// Nothing was shown yet.
    Head,
    /// Its body comes.
    Body(Box<Collecting>),
    /// It is at its endpoint.
    Passing(Box<Progress>),
    /// It has ended, or was refused.
    Over,
}

/// A request whose body comes.
struct Collecting {
    head: Head,
    subset: Subset,
    body: BytesMut,
    since: Instant,
    permit: OwnedSemaphorePermit,
}

struct Session<B> {
    gateway: Arc<Gateway>,
    messages: Messages<B>,
    modes: Modes,
    state: State,
    replies: VecDeque<ProcessingResponse>,
    /// How the call ends, once all replies were taken.
    status: Option<Status>,
    is_over: bool,
}

impl<B> Session<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    /// The next frame for the other gateway; `None` after the last one.
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        while !self.is_over {
            if let Some(reply) = self.replies.pop_front() {
                return Some(Frame::data(encode(&reply)));
            }
            if let Some(status) = self.status.take() {
                self.is_over = true;
                return Some(status.trailers());
            }
            let heard = self.messages.next(self.patience()).await;
            self.status = match heard {
                Ok(Some(message)) => self.hear(message).await.err(),
                Ok(None) => {
                    self.end().await;
                    Some(Status::OK)
                }
                Err(status) => Some(status),
            };
            if matches!(self.state, State::Over) && self.status.is_none() {
                self.status = Some(Status::OK);
            }
        }
        None
    }

    /// How long the next message may take.
    fn patience(&self) -> Option<Duration> {
        match &self.state {
            State::Head => Some(HEAD_TIMEOUT),
            State::Body(collecting) => {
                Some(BODY_TIMEOUT.saturating_sub(collecting.since.elapsed()))
            }
            // How long an answer may take is the other gateway's to say; a dead one is found out by its connection.
            State::Passing(_) | State::Over => None,
        }
    }

    async fn hear(&mut self, message: ProcessingRequest) -> Result<(), Status> {
        let ProcessingRequest {
            shown,
            metadata_context,
            observability_mode,
            protocol_config,
        } = message;
        if observability_mode {
            // Whoever only watches takes no replies, and so no endpoint.
            return Ok(());
        }
        let metadata = metadata_context.as_ref();
        match shown.ok_or(Status::INVALID)? {
            Shown::RequestHeaders(head) => self.open(&head, metadata, protocol_config).await,
            Shown::RequestBody(piece) => self.collect(piece).await,
            Shown::RequestTrailers(_) => {
                if let State::Body(_) = self.state {
                    self.pick(End::Trailers).await;
                } else {
                    self.reply(reply::passed_trailers(Told::RequestTrailers));
                }
                Ok(())
            }
            Shown::ResponseHeaders(head) => {
                self.begin(&head, metadata);
                self.reply(reply::passed(Told::ResponseHeaders));
                self.end_if(head.end_of_stream).await
            }
            Shown::ResponseBody(piece) => {
                if let State::Passing(progress) = &mut self.state {
                    progress.see(&piece.body);
                }
                let Piece {
                    body,
                    end_of_stream,
                } = piece;
                let replies = reply::passed_body(self.modes.response, &body, end_of_stream);
                self.replies.extend(replies);
                self.end_if(end_of_stream).await
            }
            Shown::ResponseTrailers(_) => {
                self.reply(reply::passed_trailers(Told::ResponseTrailers));
                self.end_if(true).await
            }
        }
    }

    /// The head of a request.
    async fn open(
        &mut self,
        shown: &HttpHeaders,
        metadata: Option<&Metadata>,
        config: Option<ProtocolConfiguration>,
    ) -> Result<(), Status> {
        if !matches!(self.state, State::Head) {
            return Err(Status::INVALID);
        }
        self.modes = Modes::of(config);
        let (gateway, mode) = (Arc::clone(&self.gateway), self.modes.request);
        match admit(&gateway, mode, shown, subset(metadata)).await {
            Ok(collecting) => {
                self.state = State::Body(Box::new(collecting));
                if self.modes.request != BodyMode::FullDuplexStreamed {
                    self.reply(reply::passed(Told::RequestHeaders));
                }
            }
            Err(fault) => self.refuse(&fault, Surface::OpenAi).await,
        }
        Ok(())
    }

    /// A piece of the request's body, or all of it.
    async fn collect(&mut self, piece: Piece) -> Result<(), Status> {
        let collecting = match &mut self.state {
            State::Head => return Err(Status::INVALID),
            State::Body(collecting) => collecting,
            State::Passing(_) | State::Over => {
                self.reply(reply::passed(Told::RequestBody));
                return Ok(());
            }
        };
        let bytes_max = self.gateway.body_bytes_max();
        if bytes_max < collecting.body.len() + piece.body.len() {
            let message = format!("The request's body is larger than {bytes_max} bytes.");
            let surface = collecting.head.operation.surface();
            let fault = Fault::new(ErrorKind::RequestTooLarge, message);
            self.refuse(&fault, surface).await;
            return Ok(());
        }
        collecting.body.extend_from_slice(&piece.body);
        if piece.end_of_stream || self.modes.request != BodyMode::FullDuplexStreamed {
            self.pick(End::Body).await;
        }
        Ok(())
    }

    /// Picks an endpoint for the request, whose body is here.
    async fn pick(&mut self, end: End) {
        let State::Body(collecting) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        let Collecting {
            head,
            subset,
            body,
            permit,
            since: _,
        } = *collecting;
        let Head {
            operation,
            model,
            headers,
        } = head;
        let asked = Asked {
            model: model.as_deref(),
            ..Asked::from(operation)
        };
        let shown = body.freeze();
        let request = (headers, shown.clone());
        let picking = self.gateway.pick_endpoint(asked, request, &subset, permit);
        match Box::pin(picking).await {
            Ok(picked) => {
                let way = Way {
                    destination: picked.destination,
                    is_changed: picked.body != shown,
                    body: picked.body,
                };
                let replies = reply::picked(&way, self.modes.request, end);
                self.replies.extend(replies);
                self.state = State::Passing(Box::new(picked.progress));
            }
            Err(fault) => self.refuse(&fault, operation.surface()).await,
        }
    }

    /// The head of the answer.
    fn begin(&mut self, shown: &HttpHeaders, metadata: Option<&Metadata>) {
        let State::Passing(progress) = &mut self.state else {
            return;
        };
        let mut headers = HeaderMap::new();
        let mut status = 0;
        for header in shown.headers.iter().flat_map(|map| &map.headers) {
            let value = value_of(header);
            if header.key == ":status" {
                let text = std::str::from_utf8(value).ok();
                status = text.and_then(|text| text.parse().ok()).unwrap_or_default();
            } else if let Ok(name) = HeaderName::from_bytes(header.key.as_bytes())
                && let Ok(value) = HeaderValue::from_bytes(value)
            {
                headers.append(name, value);
            }
        }
        let ours = progress.lease.endpoint().destination();
        let is_ours = served(metadata).is_none_or(|served| Some(served) == ours);
        progress.begin(status, &headers, is_ours);
    }

    async fn end_if(&mut self, is_end: bool) -> Result<(), Status> {
        if is_end && let State::Passing(_) = self.state {
            self.end().await;
        }
        Ok(())
    }

    /// Ends the request in good order.
    async fn end(&mut self) {
        if let State::Passing(mut progress) = std::mem::replace(&mut self.state, State::Over) {
            progress.finish().await;
        }
    }

    async fn refuse(&mut self, fault: &Fault, surface: Surface) {
        let code = fault.kind.code();
        self.gateway.metrics.count_fault(code);
        debug!(code, message = fault.message, "no endpoint is picked");
        let (head, body) = encode::fault(fault, surface).into_parts();
        // Our own answers are whole already.
        let body = body.collect().await.map(Collected::to_bytes);
        let refusal = reply::refused(
            head.status.as_u16(),
            &head.headers,
            body.unwrap_or_default(),
        );
        self.reply(refusal);
        self.state = State::Over;
    }

    fn reply(&mut self, reply: ProcessingResponse) {
        self.replies.push_back(reply);
    }
}

/// A request that may go on to its body; that of somebody unknown is not even read, while nothing is open.
async fn admit(
    gateway: &Gateway,
    mode: BodyMode,
    shown: &HttpHeaders,
    subset: Subset,
) -> Result<Collecting, Fault> {
    match mode {
        BodyMode::FullDuplexStreamed | BodyMode::Buffered | BodyMode::BufferedPartial => {}
        BodyMode::None | BodyMode::Streamed => {
            let message =
                "The endpoint picker needs request_body_mode FULL_DUPLEX_STREAMED or BUFFERED.";
            return Err(Fault::new(ErrorKind::Internal, message));
        }
    }
    let head = Head::read(shown)?;
    let permit = gateway.admit()?;
    let table = gateway.table()?;
    gateway.welcome(&table, &head.headers).await?;
    Ok(Collecting {
        head,
        subset,
        body: BytesMut::new(),
        since: Instant::now(),
        permit,
    })
}
