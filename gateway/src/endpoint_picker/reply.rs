//! What another gateway is told: the endpoint, the bodies that go on, a refusal. Pure.

use std::{collections::BTreeMap, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, header};

use super::{
    DESTINATION, LOAD_BALANCER,
    message::{
        AppendAction, BodyMode, BodyMutation, CommonResponse, Continued, HeaderMutation,
        HeaderValue, HeaderValueOption, HttpStatus, ImmediateResponse, Kind, Mutation,
        ProcessingResponse, StreamedBody, Struct, Told, TrailersResponse, Value,
    },
};

/// Bytes of a body that are told at once; more than this is more than other gateways are asked to take.
const PIECE_BYTES_MAX: usize = 62 << 10;

/// Where a request goes, and what of it changes on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// The endpoint.
    pub(super) destination: SocketAddr,
    /// The request's body.
    pub(super) body: Bytes,
    /// Whether it is another one than was shown.
    pub(super) is_changed: bool,
}

/// How the body of a request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With its last piece.
    Body,
    /// With trailers.
    Trailers,
}

/// The endpoint, and the body after it.
pub(super) fn picked(way: &Way, mode: BodyMode, end: End) -> Vec<ProcessingResponse> {
    let told = CommonResponse {
        header_mutation: Some(set_headers(way)),
        clear_route_cache: true,
        ..CommonResponse::default()
    };
    let metadata = Some(metadata(way.destination));
    if mode != BodyMode::FullDuplexStreamed {
        let body = way
            .is_changed
            .then(|| mutation(Mutation::Body(way.body.clone())));
        let told = Told::RequestBody(continued(CommonResponse {
            body_mutation: body,
            ..told
        }));
        return vec![ProcessingResponse {
            dynamic_metadata: metadata,
            ..of(told)
        }];
    }
    let head = ProcessingResponse {
        dynamic_metadata: metadata,
        ..of(Told::RequestHeaders(continued(told)))
    };
    let mut replies = vec![head];
    let pieces = pieces(&way.body);
    let last = pieces.len() - 1;
    replies.extend(pieces.into_iter().enumerate().map(|(place, piece)| {
        let is_end = place == last && end == End::Body;
        of(Told::RequestBody(streamed(piece, is_end)))
    }));
    if end == End::Trailers {
        replies.push(of(Told::RequestTrailers(TrailersResponse {})));
    }
    replies
}

/// A part that goes on as it is.
pub(super) fn passed(told: fn(Continued) -> Told) -> ProcessingResponse {
    of(told(continued(CommonResponse::default())))
}

/// Trailers that go on as they are.
pub(super) fn passed_trailers(told: fn(TrailersResponse) -> Told) -> ProcessingResponse {
    of(told(TrailersResponse {}))
}

/// A piece of an answer's body that goes on as it is.
pub(super) fn passed_body(mode: BodyMode, body: &Bytes, is_end: bool) -> Vec<ProcessingResponse> {
    if mode != BodyMode::FullDuplexStreamed {
        return vec![passed(Told::ResponseBody)];
    }
    let pieces = pieces(body);
    let last = pieces.len() - 1;
    let pieces = pieces.into_iter().enumerate();
    let told = pieces
        .map(|(place, piece)| of(Told::ResponseBody(streamed(piece, is_end && place == last))));
    told.collect()
}

/// An answer in the place of the upstream's.
pub(super) fn refused(status: u16, headers: &HeaderMap, body: Bytes) -> ProcessingResponse {
    let headers = headers
        .iter()
        .filter(|(name, _)| *name != header::CONTENT_LENGTH);
    let headers = headers.map(|(name, value)| set(name.as_str(), value.as_bytes()));
    of(Told::Immediate(ImmediateResponse {
        status: Some(HttpStatus {
            code: i32::from(status),
        }),
        headers: Some(HeaderMutation {
            set_headers: headers.collect(),
        }),
        body,
        details: "refused_by_endpoint_picker".to_owned(),
    }))
}

const fn of(told: Told) -> ProcessingResponse {
    ProcessingResponse {
        told: Some(told),
        dynamic_metadata: None,
    }
}

const fn continued(response: CommonResponse) -> Continued {
    Continued {
        response: Some(response),
    }
}

const fn mutation(mutation: Mutation) -> BodyMutation {
    BodyMutation {
        mutation: Some(mutation),
    }
}

fn streamed(body: Bytes, end_of_stream: bool) -> Continued {
    let piece = Mutation::Streamed(StreamedBody {
        body,
        end_of_stream,
    });
    continued(CommonResponse {
        body_mutation: Some(mutation(piece)),
        ..CommonResponse::default()
    })
}

fn set_headers(way: &Way) -> HeaderMutation {
    let destination = way.destination.to_string();
    let mut headers = vec![set(DESTINATION, destination.as_bytes())];
    if way.is_changed {
        let length = way.body.len().to_string();
        headers.push(set(header::CONTENT_LENGTH.as_str(), length.as_bytes()));
    }
    HeaderMutation {
        set_headers: headers,
    }
}

/// A header that replaces what clients may have sent by its name.
fn set(name: &str, value: &[u8]) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: String::new(),
            raw_value: Bytes::copy_from_slice(value),
        }),
        append_action: AppendAction::Overwrite.into(),
    }
}

fn metadata(destination: SocketAddr) -> Struct {
    let one = |name: &str, kind| Struct {
        fields: BTreeMap::from([(name.to_owned(), Value { kind: Some(kind) })]),
    };
    let named = one(DESTINATION, Kind::Text(destination.to_string()));
    one(LOAD_BALANCER, Kind::Struct(named))
}

/// A body in pieces that other gateways take; an empty one is one empty piece.
fn pieces(body: &Bytes) -> Vec<Bytes> {
    let mut rest = body.clone();
    let mut pieces = Vec::with_capacity(rest.len() / PIECE_BYTES_MAX + 1);
    while PIECE_BYTES_MAX < rest.len() {
        pieces.push(rest.split_to(PIECE_BYTES_MAX));
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests;
