//! Conversations over WebSockets: what passes, what is counted, who is let in.

use futures::{SinkExt, StreamExt};
use protocol::snapshot::{Action, Guard, GuardRule, Mode, Phases, RouteEntry};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::harness::{Harness, key, route, target};

/// An upstream that answers each text with an answer that has used something, and closes at `bye`.
async fn upstream() -> (
    String,
    JoinSet<()>,
    tokio::sync::mpsc::UnboundedReceiver<String>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (asked, urls) = tokio::sync::mpsc::unbounded_channel();
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = asked.clone();
            #[expect(clippy::result_large_err, reason = "the shape of the callback is not ours")]
            let look = |request: &Request, response: Response| {
                let authorization = request.headers().get("authorization");
                assert_eq!(authorization, None, "the client's key stays here");
                asked.send(request.uri().to_string()).unwrap();
                Ok(response)
            };
            let mut socket = accept_hdr_async(stream, look).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else { continue };
                if text == "bye" {
                    let frame = CloseFrame { code: CloseCode::Library(4000), reason: "as you wish".into() };
                    socket.close(Some(frame)).await.unwrap();
                    continue;
                }
                if text == "die" {
                    break;
                }
                let usage = json!({"total_tokens": 5, "input_tokens": 3, "output_tokens": 2});
                let done = json!({"type": "response.done", "response": {"usage": usage}, "echo": text.as_str()});
                socket.send(Message::text(done.to_string())).await.unwrap();
                socket.send(Message::binary(vec![1, 2])).await.unwrap();
            }
        }
    });
    (url, server, urls)
}

fn own(url: &str) -> Vec<RouteEntry> {
    let mut own = target("own", "real", &[]);
    own.endpoints = vec![url.to_owned()];
    vec![route("m", vec![own])]
}

async fn connect(
    harness: &Harness,
    path: &str,
    header: (&'static str, &str),
) -> Result<WebSocketStream<TcpStream>, Error> {
    let url = harness.url(path);
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
    request
        .headers_mut()
        .insert(header.0, header.1.parse().unwrap());
    client_async(request, stream)
        .await
        .map(|(socket, _)| socket)
}

const BEARER: (&str, &str) = ("authorization", "Bearer qd-a");

#[tokio::test]
async fn a_conversation_passes_and_what_it_used_is_in_the_ledger() {
    let (url, _server, mut urls) = upstream().await;
    let harness = Harness::start(own(&url), vec![key("a")]).await;
    let protocols = "realtime, openai-insecure-api-key.qd-a, openai-beta.realtime-v1";
    for header in [BEARER, ("sec-websocket-protocol", protocols)] {
        let mut socket = connect(&harness, "/v1/realtime?model=m", header)
            .await
            .unwrap();
        assert_eq!(urls.recv().await.unwrap(), "/v1/realtime?model=real");
        for text in ["one", "two"] {
            socket.send(Message::text(text)).await.unwrap();
            let done = socket.next().await.unwrap().unwrap().into_text().unwrap();
            assert!(done.contains(&format!("\"echo\":\"{text}\"")), "{done}");
            let sound = socket.next().await.unwrap().unwrap();
            assert_eq!(sound, Message::binary(vec![1, 2]));
        }
        socket.send(Message::text("bye")).await.unwrap();
        let closed = socket.next().await.unwrap().unwrap();
        let frame = CloseFrame {
            code: CloseCode::Library(4000),
            reason: "as you wish".into(),
        };
        assert_eq!(closed, Message::Close(Some(frame)));
    }
    let row = ("complete".to_owned(), 200, 6, 4);
    assert_eq!(harness.rows().await, [row.clone(), row]);
}

#[tokio::test]
async fn an_upstream_that_goes_away_is_told_as_an_error() {
    let (url, _server, _urls) = upstream().await;
    let harness = Harness::start(own(&url), vec![key("a")]).await;
    let mut socket = connect(&harness, "/v1/realtime?model=m", BEARER)
        .await
        .unwrap();
    socket.send(Message::text("die")).await.unwrap();
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("the conversation goes on")
    };
    assert_eq!(frame.code, CloseCode::Error);
    assert_eq!(harness.rows().await, [("failed".to_owned(), 502, 0, 0)]);
}

#[tokio::test]
async fn who_may_not_hold_a_conversation_gets_an_error_over_http() {
    let (url, _server, _urls) = upstream().await;
    let harness = Harness::start(own(&url), vec![key("a")]).await;
    for (path, header, expected) in [
        (
            "/v1/realtime?model=m",
            ("authorization", "Bearer qd-no"),
            401,
        ),
        ("/v1/realtime?model=no", BEARER, 404),
        ("/v1/realtime", BEARER, 400),
    ] {
        let error = connect(&harness, path, header).await.unwrap_err();
        let Error::Http(response) = error else {
            panic!("{error}")
        };
        assert_eq!(response.status(), expected, "{path}");
    }
    let plain = harness.get("/v1/realtime?model=m", Some("qd-a")).await;
    assert_eq!(plain.fault(), (400, "invalid_request".to_owned()));
    let posted = harness
        .post("/v1/realtime?model=m", Some("qd-a"), "{}")
        .await;
    assert_eq!(posted.fault(), (405, "method_not_allowed".to_owned()));
}

#[tokio::test]
async fn a_route_with_guards_holds_no_conversation() {
    let (url, _server, _urls) = upstream().await;
    let guard = Guard {
        name: "g".to_owned(),
        on: Phases::Both,
        action: Action::Mask,
        mode: Mode::Enforce,
        rule: GuardRule::Pii { kinds: Vec::new() },
    };
    let mut routes = own(&url);
    routes[0].guards = vec![guard];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let refused = connect(&harness, "/v1/realtime?model=m", BEARER).await;
    let Err(Error::Http(response)) = refused else {
        panic!("the conversation is held")
    };
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn a_shutdown_ends_conversations() {
    let (url, _server, _urls) = upstream().await;
    let harness = Harness::start(own(&url), vec![key("a")]).await;
    let mut socket = connect(&harness, "/v1/realtime?model=m", BEARER)
        .await
        .unwrap();
    harness.shutdown.cancel();
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("the conversation goes on")
    };
    assert_eq!(frame.code, CloseCode::Away);
    let folder = harness.ended().await;
    let row = ("complete".to_owned(), 200, 0, 0);
    assert_eq!(super::harness::rows_of(folder.path()), [row]);
}
