//! Service account tokens for a Pod, asked for by TokenRequest and renewed at 80 % of their life.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ServiceAccount, ServiceAccountTokenProjection};
use kube::api::{Api, PostParams};

use crate::pod::decide::later;
use crate::pod::wanted::PodId;

const EXPIRATION_SECONDS_DEFAULT: i64 = 3600;

/// A token and when to ask for the next.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) renew_at: Timestamp,
}

/// Asks the API server for a token bound to the Pod.
pub(crate) async fn request(
    client: &kube::Client,
    pod: &PodId,
    service_account: &str,
    projection: &ServiceAccountTokenProjection,
) -> Result<Token, kube::Error> {
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(projection.audience.iter().cloned().collect()),
            expiration_seconds: Some(
                projection
                    .expiration_seconds
                    .unwrap_or(EXPIRATION_SECONDS_DEFAULT),
            ),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &pod.namespace);
    let parameters = PostParams::default();
    let answer: TokenRequest = accounts
        .create_subresource("token", service_account, &parameters, &request)
        .await?;
    let status = answer.status.unwrap_or_default();
    let now = Timestamp::now();
    let expires = status.expiration_timestamp.map_or(now, |time| time.0);
    Ok(Token {
        renew_at: renew_at(now, expires),
        text: status.token.unwrap_or_default(),
    })
}

fn renew_at(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = u64::try_from(expires.as_second().saturating_sub(now.as_second())).unwrap_or(0);
    later(now, Duration::from_secs(life * 4 / 5))
}
