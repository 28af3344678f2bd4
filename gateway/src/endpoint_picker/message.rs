//! What is said: the messages of Envoy's external processing and of gRPC's health checks, as far as they are read or written.
//!
//! Numbers of fields and of enumerations are those of `envoy.service.ext_proc.v3`, `envoy.config.core.v3`,
//! `google.protobuf.Struct` and `grpc.health.v1`; fields that are not here are skipped by readers.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// How bodies are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum BodyMode {
    /// Not at all.
    None = 0,
    /// In pieces, each of which is answered.
    Streamed = 1,
    /// At once, when all of it is there.
    Buffered = 2,
    /// At once, as far as it fits a buffer.
    BufferedPartial = 3,
    /// In pieces, and sent on as they come back.
    FullDuplexStreamed = 4,
}

/// The modes that the other side is set to; in the first message only.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ProtocolConfiguration {
    #[prost(enumeration = "BodyMode", tag = "1")]
    pub(super) request_body_mode: i32,
    #[prost(enumeration = "BodyMode", tag = "2")]
    pub(super) response_body_mode: i32,
}

/// What the other side shows.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessingRequest {
    #[prost(oneof = "Shown", tags = "2, 3, 4, 5, 6, 7")]
    pub(super) shown: Option<Shown>,
    #[prost(message, optional, tag = "8")]
    pub(super) metadata_context: Option<Metadata>,
    #[prost(bool, tag = "10")]
    pub(super) observability_mode: bool,
    #[prost(message, optional, tag = "11")]
    pub(super) protocol_config: Option<ProtocolConfiguration>,
}

/// A part of a request or of its answer.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Shown {
    #[prost(message, tag = "2")]
    RequestHeaders(HttpHeaders),
    #[prost(message, tag = "3")]
    ResponseHeaders(HttpHeaders),
    #[prost(message, tag = "4")]
    RequestBody(HttpBody),
    #[prost(message, tag = "5")]
    ResponseBody(HttpBody),
    #[prost(message, tag = "6")]
    RequestTrailers(HttpTrailers),
    #[prost(message, tag = "7")]
    ResponseTrailers(HttpTrailers),
}

/// A head.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpHeaders {
    #[prost(message, optional, tag = "1")]
    pub(super) headers: Option<HeaderMap>,
    #[prost(bool, tag = "3")]
    pub(super) end_of_stream: bool,
}

/// A body, or a piece of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct HttpBody {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) body: Bytes,
    #[prost(bool, tag = "2")]
    pub(super) end_of_stream: bool,
}

/// Trailers, of which nothing is read.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct HttpTrailers {}

/// Headers in their order, names in small letters.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    pub(super) headers: Vec<HeaderValue>,
}

/// A header. Its value is in one of the two fields.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct HeaderValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) raw_value: Bytes,
}

/// What filters know of a request, by their names.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) filter_metadata: BTreeMap<String, Struct>,
}

/// An object, as JSON has it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) fields: BTreeMap<String, Value>,
}

/// A value, as JSON has it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(oneof = "Kind", tags = "3, 5, 6")]
    pub(super) kind: Option<Kind>,
}

/// The kinds of values that are read or written.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Struct(Struct),
    #[prost(message, tag = "6")]
    List(List),
}

/// A list, as JSON has it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct List {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<Value>,
}

/// What the other side is told.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessingResponse {
    #[prost(oneof = "Told", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(super) told: Option<Told>,
    #[prost(message, optional, tag = "8")]
    pub(super) dynamic_metadata: Option<Struct>,
}

/// What becomes of a part that was shown.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Told {
    #[prost(message, tag = "1")]
    RequestHeaders(Continued),
    #[prost(message, tag = "2")]
    ResponseHeaders(Continued),
    #[prost(message, tag = "3")]
    RequestBody(Continued),
    #[prost(message, tag = "4")]
    ResponseBody(Continued),
    #[prost(message, tag = "5")]
    RequestTrailers(TrailersResponse),
    #[prost(message, tag = "6")]
    ResponseTrailers(TrailersResponse),
    #[prost(message, tag = "7")]
    Immediate(ImmediateResponse),
}

/// It goes on, perhaps changed. Heads and bodies are answered in the same form.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Continued {
    #[prost(message, optional, tag = "1")]
    pub(super) response: Option<CommonResponse>,
}

/// Trailers go on as they are.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct TrailersResponse {}

/// How a part goes on.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CommonResponse {
    #[prost(message, optional, tag = "2")]
    pub(super) header_mutation: Option<HeaderMutation>,
    #[prost(message, optional, tag = "3")]
    pub(super) body_mutation: Option<BodyMutation>,
    #[prost(bool, tag = "5")]
    pub(super) clear_route_cache: bool,
}

/// Headers that are set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderMutation {
    #[prost(message, repeated, tag = "1")]
    pub(super) set_headers: Vec<HeaderValueOption>,
}

/// A header, and what becomes of one that is there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<HeaderValue>,
    #[prost(enumeration = "AppendAction", tag = "3")]
    pub(super) append_action: i32,
}

/// What becomes of a header that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum AppendAction {
    /// It gets one more value.
    Append = 0,
    /// It stays.
    AddIfAbsent = 1,
    /// It goes.
    Overwrite = 2,
}

/// What comes in the place of a body.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BodyMutation {
    #[prost(oneof = "Mutation", tags = "1, 3")]
    pub(super) mutation: Option<Mutation>,
}

/// The body, or its next piece.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum Mutation {
    #[prost(bytes = "bytes", tag = "1")]
    Body(Bytes),
    #[prost(message, tag = "3")]
    Streamed(StreamedBody),
}

/// The next piece of a body.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StreamedBody {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) body: Bytes,
    #[prost(bool, tag = "2")]
    pub(super) end_of_stream: bool,
}

/// An answer in the place of the upstream's.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ImmediateResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<HttpStatus>,
    #[prost(message, optional, tag = "2")]
    pub(super) headers: Option<HeaderMutation>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) body: Bytes,
    #[prost(string, tag = "5")]
    pub(super) details: String,
}

/// A status, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct HttpStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

/// Which service is asked after; all of them if it is empty.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// How it stands.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub(super) status: i32,
}

/// Whether a service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum ServingStatus {
    /// Nobody knows.
    Unknown = 0,
    /// It does.
    Serving = 1,
    /// It does not.
    NotServing = 2,
}
