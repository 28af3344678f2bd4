//! Everything that is no resource: discovery, documents, version, health, keys.

use http::header::{ACCEPT, CACHE_CONTROL, ETAG, HOST, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::Api;
use crate::auth::tokens::ISSUER;
use crate::discovery;
use crate::documents::{Document, tag};
use crate::request::Query;
use crate::response::{Body, failure, full, json, large_json, text, with_type};
use crate::status::ApiError;

/// The Kubernetes release whose API this is.
pub(crate) const VERSION: (&str, &str) = ("1", "37");

impl Api {
    pub(super) fn path(&self, parts: &Parts, query: &Query) -> Response<Body> {
        let headers = &parts.headers;
        let path = parts.uri.path().trim_end_matches('/');
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let catalog = self.registry.catalog();
        let document = match segments.as_slice() {
            [] | [""] => return json(StatusCode::OK, &root()),
            ["version"] => return json(StatusCode::OK, &version()),
            [check @ ("healthz" | "livez" | "readyz"), ..] => return self.health(check, query),
            [list @ ("api" | "apis")] if wants_aggregated(headers) => {
                return cached(headers, &discovery::aggregated(&catalog, *list == "api"));
            }
            ["api"] => Some(discovery::core_versions(&authority(
                headers,
                &self.advertise_url,
            ))),
            ["apis"] => Some(discovery::group_list(&catalog)),
            ["apis", group] => discovery::group(&catalog, group),
            ["api", version] => discovery::resource_list(&catalog, "", version),
            ["apis", group, version] => {
                let list = discovery::resource_list(&catalog, group, version);
                if list.is_none() && discovery::group(&catalog, group).is_some() {
                    return failure(&ApiError::no_such_path());
                }
                list
            }
            ["openapi", "v3"] => return documented(headers, query, self.documents.index(&catalog)),
            ["openapi", "v3", rest @ ..] => {
                return documented(headers, query, self.documents.of(&catalog, &rest.join("/")));
            }
            ["openid", "v1", "jwks"] => {
                return with_type(
                    StatusCode::OK,
                    "application/jwk-set+json",
                    full(self.signer.key_set().to_string()),
                );
            }
            [".well-known", "openid-configuration"] => {
                Some(openid_configuration(&self.advertise_url))
            }
            ["metrics"] => return text(StatusCode::OK, self.metrics()),
            _ => None,
        };
        match document {
            Some(document) => json(StatusCode::OK, &document),
            None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn metrics(&self) -> String {
        let mut lines = String::from("# TYPE apiserver_storage_objects gauge\n");
        for (shelf, resource) in self.registry.catalog().shelves() {
            let count = self.store.snapshot(&shelf).entries.len();
            let name = if resource.group.is_empty() {
                resource.plural.clone()
            } else {
                format!("{}.{}", resource.plural, resource.group)
            };
            lines.push_str(&format!(
                "apiserver_storage_objects{{resource=\"{name}\"}} {count}\n"
            ));
        }
        lines.push_str(&format!(
            "# TYPE apiserver_revision counter\napiserver_revision {}\n",
            self.store.revision()
        ));
        lines
    }
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let first = accept
        .split(',')
        .find(|range| range.contains("application/json") || range.contains("*/*"));
    first.is_some_and(|range| {
        let parts: Vec<&str> = range.split(';').map(str::trim).collect();
        ["as=APIGroupDiscoveryList", "g=apidiscovery.k8s.io", "v=v2"]
            .iter()
            .all(|wanted| parts.contains(wanted))
    })
}

fn cached(headers: &HeaderMap, document: &Value) -> Response<Body> {
    let bytes = document.to_string().into_bytes();
    let etag = format!("\"{}\"", tag(&bytes));
    let mut response = if matches(headers, &etag) {
        let mut response = Response::new(full(Vec::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = large_json(headers, bytes);
        response.headers_mut().insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static(discovery::AGGREGATED),
        );
        response
    };
    insert_etag(&mut response, &etag);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    response
}

fn documented(headers: &HeaderMap, query: &Query, document: Option<Document>) -> Response<Body> {
    let Some(document) = document else {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let etag = format!("\"{}\"", document.tag);
    let mut response = if matches(headers, &etag) {
        let mut response = Response::new(full(Vec::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        large_json(headers, document.bytes.to_vec())
    };
    insert_etag(&mut response, &etag);
    if query.get("hash").is_some_and(|hash| hash == document.tag) {
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}

fn insert_etag(response: &mut Response<Body>, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, value);
    }
}

fn matches(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|sent| sent.split(',').any(|one| one.trim() == etag))
}

fn authority(headers: &HeaderMap, advertise_url: &str) -> String {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    host.unwrap_or_else(|| advertise_url.trim_start_matches("https://"))
        .to_owned()
}

fn root() -> Value {
    json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]})
}

fn version() -> Value {
    let (major, minor) = VERSION;
    json!({
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": "36",
        "gitVersion": format!("v{major}.{minor}.0+quarterdeck"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    })
}

/// The architecture in Go's words.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn openid_configuration(advertise_url: &str) -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{advertise_url}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}
