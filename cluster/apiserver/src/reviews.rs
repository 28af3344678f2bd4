//! Questions asked by creating them: access reviews, token reviews, who am I.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::call::Call;
use crate::auth::tokens::ISSUER;
use crate::auth::{Access, User};
use crate::clock;
use crate::negotiate::negotiate;
use crate::response::{Body, object};
use crate::status::ApiError;
use crate::writing::{WriteOptions, decode};

/// Answers a question.
pub(crate) fn create(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::of(call, "CreateOptions")?;
    let mut review = decode(call, &options)?.object;
    let spec = review.get("spec").cloned().unwrap_or(json!({}));
    review["status"] = match call.resource.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": call.user.to_value()}),
        "TokenReview" => review_token(call, &spec),
        "SelfSubjectAccessReview" => review_access(call, &call.user, &spec)?,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let subject = subject(&spec);
            review_access(call, &subject, &spec)?
        }
        "SelfSubjectRulesReview" => review_rules(call, &spec),
        _ => return Err(ApiError::no_such_path()),
    };
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    if call.resource.kind == "SelfSubjectReview" {
        review["metadata"]["creationTimestamp"] = json!(clock::now());
    }
    let (_, format) = negotiate(call.headers())?;
    Ok(object(StatusCode::CREATED, &review, format))
}

fn subject(spec: &Value) -> User {
    let mut user = User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        ..User::default()
    };
    user.groups = spec["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    user
}

fn review_access(call: &Call, user: &User, spec: &Value) -> Result<Value, ApiError> {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (resource, path) = (
        spec.get("resourceAttributes"),
        spec.get("nonResourceAttributes"),
    );
    let allowed = match (resource, path) {
        (Some(asked), _) => {
            let (verb, group, namespace, name) = (
                text(asked, "verb"),
                text(asked, "group"),
                text(asked, "namespace"),
                text(asked, "name"),
            );
            let subresource = text(asked, "subresource");
            let plural = text(asked, "resource");
            let resource = if subresource.is_empty() {
                plural
            } else {
                format!("{plural}/{subresource}")
            };
            let optional = |text: &str| !text.is_empty();
            let access = Access::Resource {
                verb: &verb,
                group: &group,
                resource: &resource,
                namespace: Some(namespace.as_str()).filter(|text| optional(text)),
                name: Some(name.as_str()).filter(|text| optional(text)),
            };
            call.api.authorizer.allows(user, access)
        }
        (None, Some(asked)) => {
            let (verb, path) = (text(asked, "verb"), text(asked, "path"));
            call.api.authorizer.allows(
                user,
                Access::Path {
                    verb: &verb,
                    path: &path,
                },
            )
        }
        (None, None) => {
            return Err(ApiError::bad_request(
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    Ok(if allowed {
        json!({"allowed": true})
    } else {
        json!({"allowed": false})
    })
}

fn review_token(call: &Call, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let asked: Vec<&str> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let audiences = if asked.is_empty() {
        vec![ISSUER]
    } else {
        asked
    };
    let found = audiences
        .iter()
        .find_map(|audience| Some((call.api.user_of(token, audience)?, *audience)));
    match found {
        Some((user, audience)) => {
            json!({"authenticated": true, "user": user.to_value(), "audiences": [audience]})
        }
        None => json!({"user": {}, "error": "invalid bearer token"}),
    }
}

fn review_rules(call: &Call, spec: &Value) -> Value {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    let rules = call.api.authorizer.rules_of(&call.user, namespace);
    let (paths, resources): (Vec<_>, Vec<_>) = rules
        .into_iter()
        .partition(|rule| !rule.non_resource_urls.is_empty());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}
