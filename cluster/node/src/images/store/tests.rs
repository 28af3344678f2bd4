use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a registry serves, by the last part of the path.
type Served = Arc<HashMap<String, Bytes>>;

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(6);
    builder
        .append_data(&mut header, "etc/marker", &b"marker"[..])
        .unwrap();
    builder.into_inner().unwrap()
}

/// Blobs and a manifest tagged `1`; `is_tampered` changes the layer after its digest was taken.
fn image(is_tampered: bool) -> Served {
    let config =
        json!({"config": {"Entrypoint": ["/bin/it"], "Env": ["A=b"], "User": "7"}}).to_string();
    let layer = layer();
    let descriptor = |kind: &str, bytes: &[u8]| -> Value {
        json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let mut served = layer.clone();
    if is_tampered {
        served[0] ^= 1;
    }
    Arc::new(HashMap::from([
        (digest(config.as_bytes()), Bytes::from(config)),
        (digest(&layer), Bytes::from(served)),
        ("1".to_owned(), Bytes::from(manifest.to_string())),
    ]))
}

async fn answer(State(served): State<Served>, UrlPath(name): UrlPath<String>) -> Response {
    let name = name.rsplit('/').next().unwrap_or_default();
    match served.get(name) {
        Some(bytes) => ([(header::CONTENT_TYPE, MANIFEST)], bytes.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn check(is_tampered: bool, tag: &str, expected: Result<&str, &str>) {
    // Another test of this process may have chosen the provider.
    drop(rustls::crypto::ring::default_provider().install_default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("{}/team/tool:{tag}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v2/", get(|| async { "" }))
        .route("/v2/{*rest}", get(answer))
        .with_state(image(is_tampered));
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().to_owned()).unwrap();
    let pulled = tokio::select! {
        pulled = store.ensure(&name, None, || {}) => pulled,
        _ = axum::serve(listener, router).into_future() => panic!("the registry ended"),
    };
    let got = match pulled {
        Ok(pulled) => {
            let image = pulled.image;
            assert_eq!(image.defaults.entrypoint, ["/bin/it"]);
            assert_eq!(image.defaults.user.as_deref(), Some("7"));
            // Without the registry, what was pulled is still there.
            store.ensure(&name, None, || {}).await.unwrap();
            Ok(fs::read_to_string(image.rootfs.unwrap().join("etc/marker")).unwrap())
        }
        Err(error) => {
            assert!(
                !folder.path().join("rootfs").exists(),
                "nothing was unpacked"
            );
            Err(error.reason)
        }
    };
    assert_eq!(
        got,
        expected.map(ToOwned::to_owned),
        "tampered {is_tampered}, tag {tag}"
    );
}

#[tokio::test]
async fn an_image_is_pulled_only_with_its_digests() {
    check(false, "1", Ok("marker")).await;
    check(true, "1", Err("ErrImagePull")).await;
    check(false, "2", Err("ErrImagePull")).await;
}
