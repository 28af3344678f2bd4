//! What is read of the messages that Envoy's own definitions encode, and of heads that ask for nothing.

use std::{collections::HashSet, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use protocol::openai::ErrorKind;
use serde_json::Value as Json;

use super::{Head, Modes, served, subset};
use crate::{
    call::Operation,
    endpoint_picker::message::{
        BodyMode, HeaderMap as Shown, HeaderValue as Header, HttpBody, HttpHeaders, HttpTrailers,
        Kind, List, Metadata, ProcessingRequest, Shown as Part, Struct, Value,
    },
};

fn recorded(name: &str) -> ProcessingRequest {
    let messages = include_str!("../../../testdata/ext_proc.json");
    let messages: Json = serde_json::from_str(messages).unwrap();
    let hex = messages["requests"][name].as_str().unwrap();
    let bytes = (0..hex.len()).step_by(2);
    let bytes: Vec<u8> = bytes
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    ProcessingRequest::decode(&*bytes).unwrap()
}

fn addresses(texts: &[&str]) -> HashSet<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_request_of_envoys_is_read() {
    let request = recorded("request_headers");
    let modes = Modes {
        request: BodyMode::FullDuplexStreamed,
        response: BodyMode::Buffered,
    };
    assert_eq!(Modes::of(request.protocol_config), modes);
    let allowed = addresses(&["10.0.0.1:8000", "10.0.0.2:8000"]);
    assert_eq!(subset(request.metadata_context.as_ref()), Some(allowed));
    let Some(Part::RequestHeaders(head)) = request.shown else {
        panic!("{request:?}")
    };
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer qd-a"));
    let expected = Head {
        operation: Operation::Chat,
        model: None,
        headers,
    };
    assert_eq!(Head::read(&head), Ok(expected));
}

#[test]
fn all_parts_of_envoys_are_read() {
    let check = |name: &str, expected: Part| {
        assert_eq!(recorded(name).shown, Some(expected), "{name}");
    };
    let body = |text: &'static str, end_of_stream| HttpBody {
        body: Bytes::from_static(text.as_bytes()),
        end_of_stream,
    };
    check(
        "request_body",
        Part::RequestBody(body(r#"{"model":"m"}"#, true)),
    );
    check("request_trailers", Part::RequestTrailers(HttpTrailers {}));
    check(
        "response_body",
        Part::ResponseBody(body("data: 1\n\n", false)),
    );
    check("response_trailers", Part::ResponseTrailers(HttpTrailers {}));
    assert!(recorded("response_trailers").observability_mode);
    let answered = recorded("response_headers");
    let by = "10.0.0.1:8000".parse().ok();
    assert_eq!(served(answered.metadata_context.as_ref()), by);
    assert_eq!(
        served(recorded("request_headers").metadata_context.as_ref()),
        None
    );
}

fn head(method: &str, path: &str, more: &[(&str, &str)]) -> HttpHeaders {
    let first = [(":method", method), (":path", path)];
    let headers = first.iter().chain(more).map(|(key, value)| Header {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
        raw_value: Bytes::new(),
    });
    HttpHeaders {
        headers: Some(Shown {
            headers: headers.collect(),
        }),
        end_of_stream: false,
    }
}

#[test]
fn a_path_says_what_is_asked_for_behind_any_prefix() {
    let check = |path: &str, expected: Result<(Operation, Option<&str>), ErrorKind>| {
        let read = Head::read(&head("POST", path, &[]));
        let read = read.map(|head| (head.operation, head.model));
        let read = read.map_err(|fault| fault.kind);
        let expected = expected.map(|(operation, model)| (operation, model.map(str::to_owned)));
        assert_eq!(read, expected, "{path}");
    };
    check("/v1/chat/completions", Ok((Operation::Chat, None)));
    check(
        "/team/llama/v1/completions?x=/v1/y",
        Ok((Operation::Completion, None)),
    );
    check("/v1/messages", Ok((Operation::Message, None)));
    check("/tokenize", Ok((Operation::Tokenization, None)));
    let deployed = "/openai/deployments/gpt/chat/completions";
    check(deployed, Ok((Operation::Chat, Some("gpt"))));
    check("/v1/models", Err(ErrorKind::NotFound));
    check("/healthz", Err(ErrorKind::NotFound));
    check("", Err(ErrorKind::NotFound));
}

#[test]
fn what_names_no_model_in_a_body_is_refused() {
    let check = |head: HttpHeaders| {
        let fault = Head::read(&head).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::InvalidRequest, "{}", fault.message);
    };
    let path = "/v1/chat/completions";
    check(head("GET", path, &[]));
    check(HttpHeaders {
        end_of_stream: true,
        ..head("POST", path, &[])
    });
    let form = [("content-type", "multipart/form-data; boundary=x")];
    check(head("POST", "/v1/audio/transcriptions", &form));
    // A header that is none is left out, and takes nothing along.
    let odd = [("b\u{e4}d name", "x"), ("x-bad", "a\nb"), ("x-good", "1")];
    let headers = Head::read(&head("POST", path, &odd)).unwrap().headers;
    assert_eq!(
        (headers.len(), &headers["x-good"]),
        (1, &HeaderValue::from_static("1"))
    );
}

#[test]
fn a_subset_is_a_list_or_a_text_and_nothing_unreadable_is_in_it() {
    let text = |text: &str| Kind::Text(text.to_owned());
    let value = |kind| Value { kind: Some(kind) };
    let metadata = |filter: &str, kind| {
        let fields = [(
            "x-gateway-destination-endpoint-subset".to_owned(),
            value(kind),
        )];
        let hint = Struct {
            fields: fields.into_iter().collect(),
        };
        Metadata {
            filter_metadata: [(filter.to_owned(), hint)].into_iter().collect(),
        }
    };
    let hint = "envoy.lb.subset_hint";
    let check = |kind: Kind, expected: &[&str]| {
        let found = subset(Some(&metadata(hint, kind)));
        assert_eq!(found, Some(addresses(expected)));
    };
    let list = |kinds: Vec<Kind>| {
        Kind::List(List {
            values: kinds.into_iter().map(value).collect(),
        })
    };
    check(list(Vec::new()), &[]);
    let mixed = vec![
        text("10.0.0.1:1"),
        text("pod:1"),
        list(Vec::new()),
        text("[fd00::1]:2"),
    ];
    check(list(mixed), &["10.0.0.1:1", "[fd00::1]:2"]);
    check(
        text("10.0.0.1:1, 10.0.0.2:1"),
        &["10.0.0.1:1", "10.0.0.2:1"],
    );
    check(text(""), &[]);
    check(Kind::Struct(Struct::default()), &[]);
    assert_eq!(subset(Some(&metadata("other", text("10.0.0.1:1")))), None);
    assert_eq!(subset(None), None);
}
