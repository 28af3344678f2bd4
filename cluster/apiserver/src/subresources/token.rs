//! Tokens of service accounts, made on request.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::call::Call;
use crate::auth::tokens::{Bound, Claims, ISSUER, KubernetesClaim};
use crate::clock;
use crate::negotiate::negotiate;
use crate::response::{Body, object};
use crate::status::{ApiError, Cause};
use crate::writing::body_value;

const LIFETIME_DEFAULT_SECONDS: i64 = 3600;
const LIFETIME_MIN_SECONDS: i64 = 600;
const LIFETIME_MAX_SECONDS: i64 = 1 << 32;
/// Clients that would break on a shorter life get a longer one, as on the real server.
const LIFETIME_WARNED_SECONDS: i64 = 3607;
const LIFETIME_EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// Answers a `TokenRequest`.
pub(crate) fn create(call: &Call) -> Result<Response<Body>, ApiError> {
    let (request, _) = body_value(call)?;
    let account = call
        .api
        .store
        .get("/serviceaccounts", &call.key())
        .ok_or_else(|| call.not_found())?
        .value();
    let spec = &request["spec"];
    let asked = spec["expirationSeconds"]
        .as_i64()
        .unwrap_or(LIFETIME_DEFAULT_SECONDS);
    let refuse = |why: &str| {
        let cause = Cause::invalid("spec.expirationSeconds", &json!(asked), why);
        Err(ApiError::invalid(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            vec![cause],
        ))
    };
    if asked < LIFETIME_MIN_SECONDS {
        return refuse("may not specify a duration less than 10 minutes");
    }
    if asked > LIFETIME_MAX_SECONDS {
        return refuse("may not specify a duration larger than 2^32 seconds");
    }
    let mut audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let for_us = audiences.is_empty();
    if for_us {
        audiences.push(ISSUER.to_owned());
    }
    let kubernetes = claim(call, &account, spec)?;
    let now = clock::unix_seconds();
    let life = if asked == LIFETIME_WARNED_SECONDS && for_us {
        LIFETIME_EXTENDED_SECONDS
    } else {
        asked
    };
    let claims = Claims {
        aud: audiences.clone(),
        exp: now + life,
        iat: now,
        iss: ISSUER.to_owned(),
        jti: uuid::Uuid::now_v7().to_string(),
        sub: format!(
            "system:serviceaccount:{}:{}",
            kubernetes.namespace, kubernetes.serviceaccount.name
        ),
        kubernetes,
        nbf: now,
    };
    let token = call
        .api
        .signer
        .sign(&claims)
        .ok_or_else(|| ApiError::internal("cannot sign a token"))?;
    let mut answer = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": call.name(), "namespace": call.namespace(), "creationTimestamp": clock::now()},
        "spec": {"audiences": audiences, "expirationSeconds": asked, "boundObjectRef": spec["boundObjectRef"]},
        "status": {"token": token, "expirationTimestamp": clock::format(now + asked)},
    });
    if answer["spec"]["boundObjectRef"].is_null() {
        answer["spec"]["boundObjectRef"] = Value::Null;
    }
    let (_, format) = negotiate(call.headers())?;
    Ok(object(StatusCode::CREATED, &answer, format))
}

fn claim(call: &Call, account: &Value, spec: &Value) -> Result<KubernetesClaim, ApiError> {
    let namespace = call.namespace().unwrap_or_default().to_owned();
    let uid = |object: &Value| {
        object["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let serviceaccount = Bound {
        name: call.name().to_owned(),
        uid: uid(account),
    };
    let mut claim = KubernetesClaim {
        namespace: namespace.clone(),
        serviceaccount,
        pod: None,
        secret: None,
        node: None,
    };
    let reference = &spec["boundObjectRef"];
    if reference.is_null() {
        return Ok(claim);
    }
    let name = reference["name"].as_str().unwrap_or_default().to_owned();
    let (shelf, plural) = match reference["kind"].as_str() {
        Some("Pod") => ("/pods", "pods"),
        Some("Secret") => ("/secrets", "secrets"),
        _ => {
            return Err(ApiError::bad_request(
                "cannot bind token to object of this kind",
            ));
        }
    };
    let found = call
        .api
        .store
        .get(shelf, &format!("{namespace}/{name}"))
        .ok_or_else(|| ApiError::not_found("", plural, &name))?
        .value();
    let wanted = reference["uid"]
        .as_str()
        .filter(|wanted| !wanted.is_empty());
    if wanted.is_some_and(|wanted| wanted != uid(&found)) {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            wanted.unwrap_or_default()
        );
        return Err(ApiError::conflict("", plural, &name, &why));
    }
    let bound = Some(Bound {
        name,
        uid: uid(&found),
    });
    if plural == "pods" {
        if found["spec"]["serviceAccountName"].as_str() != Some(call.name()) {
            return Err(ApiError::bad_request(
                "cannot bind token for serviceaccount to pod running with different serviceaccount name.",
            ));
        }
        claim.pod = bound;
        if let Some(node) = found["spec"]["nodeName"].as_str() {
            let stored = call
                .api
                .store
                .get("/nodes", node)
                .map(|entry| uid(&entry.value()));
            claim.node = Some(Bound {
                name: node.to_owned(),
                uid: stored.unwrap_or_default(),
            });
        }
    } else {
        claim.secret = bound;
    }
    Ok(claim)
}
