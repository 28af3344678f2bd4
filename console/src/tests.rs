//! Who is let in, and that the key goes to the planes only.

use axum::{Router, body::Body, routing::get};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use protocol::secret::SecretString;
use tokio::{net::TcpListener, task::JoinSet};
use tower::ServiceExt;

use super::{ConsoleConfig, router};

async fn console(tasks: &mut JoinSet<()>) -> Router {
    let plane = Router::new().route(
        "/v1/models",
        get(|headers: HeaderMap| async move { format!("{:?}", headers.get("authorization")) }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tasks.spawn(async move { axum::serve(listener, plane).await.unwrap() });
    let _ = rustls_provider();
    router(ConsoleConfig {
        gateway: url.clone(),
        agents: url,
        key: SecretString::new("qd-key".to_owned()),
        admission: SecretString::new("word".to_owned()),
    })
}

/// Without a TLS provider no client can be made.
fn rustls_provider() -> Result<(), std::sync::Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::ring::default_provider().install_default()
}

async fn ask(console: &Router, path: &str, cookie: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::get(path)
        .header(header::COOKIE, cookie)
        .body(Body::empty())
        .unwrap();
    let response = console.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (
        parts.status,
        parts.headers,
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

#[tokio::test]
async fn only_a_browser_with_the_word_is_let_in_and_only_the_plane_sees_the_key() {
    let mut tasks = JoinSet::new();
    let console = console(&mut tasks).await;
    assert_eq!(ask(&console, "/", "").await.0, StatusCode::FORBIDDEN);
    assert_eq!(
        ask(&console, "/?admission=guess", "").await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        ask(&console, "/gateway/models", "quarterdeck-console=guess")
            .await
            .0,
        StatusCode::FORBIDDEN
    );
    let (status, headers, _) = ask(&console, "/?admission=word", "").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let cookie = headers[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let (status, _, page) = ask(&console, "/", &cookie).await;
    assert!(
        status == StatusCode::OK
            && page.contains("<title>Quarterdeck</title>")
            && !page.contains("qd-key")
    );
    let (status, _, seen) = ask(&console, "/gateway/models", &cookie).await;
    assert_eq!(
        (status, seen.as_str()),
        (StatusCode::OK, "Some(\"Bearer qd-key\")")
    );
    assert_eq!(
        ask(&console, "/elsewhere/models", &cookie).await.0,
        StatusCode::NOT_FOUND
    );
}
