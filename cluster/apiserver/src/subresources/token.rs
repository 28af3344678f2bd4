//! Tokens of service accounts, made on request.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::call::Call;
use crate::auth::tokens::{Bound, Claims, ISSUER, KubernetesClaim};
use crate::clock;
use crate::negotiate::negotiate;
use crate::response::{Body, object};
use crate::status::{ApiError, Cause};
use crate::values::{text, texts, uid};
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
    let account = call.api.store.get("/serviceaccounts", &call.key());
    let account = account.ok_or_else(|| call.not_found())?.value();
    let spec = &request["spec"];
    let asked = lifetime(spec)?;
    let mut audiences = texts(&spec["audiences"]);
    let for_us = audiences.is_empty();
    if for_us {
        audiences.push(ISSUER.to_owned());
    }
    let kubernetes = claim(call, &account, spec)?;
    let now = clock::unix_seconds();
    let extended = asked == LIFETIME_WARNED_SECONDS && for_us;
    let (namespace, name) = (call.namespace().unwrap_or_default(), call.name());
    let claims = Claims {
        aud: audiences.clone(),
        exp: now
            + if extended {
                LIFETIME_EXTENDED_SECONDS
            } else {
                asked
            },
        iat: now,
        iss: ISSUER.to_owned(),
        jti: uuid::Uuid::now_v7().to_string(),
        sub: format!("system:serviceaccount:{namespace}:{name}"),
        kubernetes,
        nbf: now,
    };
    let token = call.api.signer.sign(&claims);
    let token = token.ok_or_else(|| ApiError::internal("cannot sign a token"))?;
    let answer = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": clock::now()},
        "spec": {"audiences": audiences, "expirationSeconds": asked, "boundObjectRef": spec["boundObjectRef"]},
        "status": {"token": token, "expirationTimestamp": clock::format(now + asked)},
    });
    let (_, format) = negotiate(call.headers())?;
    Ok(object(StatusCode::CREATED, &answer, format))
}

fn lifetime(spec: &Value) -> Result<i64, ApiError> {
    let asked = spec["expirationSeconds"]
        .as_i64()
        .unwrap_or(LIFETIME_DEFAULT_SECONDS);
    let why = if asked < LIFETIME_MIN_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if asked > LIFETIME_MAX_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(asked);
    };
    let cause = Cause::invalid("spec.expirationSeconds", &json!(asked), why);
    Err(ApiError::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        "",
        vec![cause],
    ))
}

fn claim(call: &Call, account: &Value, spec: &Value) -> Result<KubernetesClaim, ApiError> {
    let namespace = call.namespace().unwrap_or_default().to_owned();
    let serviceaccount = Bound {
        name: call.name().to_owned(),
        uid: uid(account),
    };
    let mut claim = KubernetesClaim {
        namespace,
        serviceaccount,
        pod: None,
        secret: None,
        node: None,
    };
    let reference = &spec["boundObjectRef"];
    match reference["kind"].as_str() {
        None => {}
        Some("Pod") => {
            let (pod, bound) = referenced(call, "pods", reference)?;
            if text(&pod["spec"]["serviceAccountName"]) != call.name() {
                let why = "cannot bind token for serviceaccount to pod running with different serviceaccount name.";
                return Err(ApiError::bad_request(why));
            }
            claim.pod = Some(bound);
            claim.node = pod["spec"]["nodeName"].as_str().map(|node| {
                let stored = call.api.store.get("/nodes", node);
                let uid = stored.map(|entry| uid(&entry.value())).unwrap_or_default();
                Bound {
                    name: node.to_owned(),
                    uid,
                }
            });
        }
        Some("Secret") => claim.secret = Some(referenced(call, "secrets", reference)?.1),
        Some(kind) => {
            let why = format!("cannot bind token to object of type {kind}");
            return Err(ApiError::bad_request(why));
        }
    }
    Ok(claim)
}

/// The object that a token is bound to.
fn referenced(call: &Call, plural: &str, reference: &Value) -> Result<(Value, Bound), ApiError> {
    let name = text(&reference["name"]).to_owned();
    let key = format!("{}/{name}", call.namespace().unwrap_or_default());
    let found = call.api.store.get(&format!("/{plural}"), &key);
    let found = found
        .ok_or_else(|| ApiError::not_found("", plural, &name))?
        .value();
    let (wanted, uid) = (text(&reference["uid"]), uid(&found));
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", plural, &name, &why));
    }
    Ok((found, Bound { name, uid }))
}
