//! Who asks for a snapshot: TokenReview with our audience, remembered for a short while.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use parking_lot::Mutex;
use protocol::{key::hash_key, snapshot::AUDIENCE};
use thiserror::Error;

/// How long an accepted token is not asked for again.
const ACCEPTED_FOR: Duration = Duration::from_secs(60);
/// How long a refused token is not asked for again.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Tokens that are remembered.
const REMEMBERED_MAX: usize = 1024;

/// Why a token could not be judged.
#[derive(Debug, Error)]
#[error("asking the API server for a token review")]
pub(crate) struct ReviewError(#[from] kube::Error);

/// When a token was reviewed, and whose it is.
type Review = (Instant, Option<String>);

/// Asks the API server whose a token is.
#[derive(Clone)]
pub(crate) struct Authenticator {
    client: Client,
    known: Arc<Mutex<HashMap<String, Review>>>,
}

impl Authenticator {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            known: Arc::default(),
        }
    }

    /// The user's name, or none if the token is not good for us.
    pub(crate) async fn user(&self, token: &str) -> Result<Option<String>, ReviewError> {
        // Tokens are remembered as hashes, so that they do not linger in memory.
        let hash = hash_key(token);
        if let Some(known) = self.remembered(&hash) {
            return Ok(known);
        }
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: token.to_owned(),
            },
            status: None,
        };
        let answer = Api::<TokenReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await?;
        let user = answer.status.and_then(accepted);
        let mut known = self.known.lock();
        if REMEMBERED_MAX <= known.len() {
            known.clear();
        }
        known.insert(hash, (Instant::now(), user.clone()));
        Ok(user)
    }

    fn remembered(&self, hash: &str) -> Option<Option<String>> {
        let known = self.known.lock();
        let (asked, user) = known.get(hash)?;
        let holds_for = if user.is_some() {
            ACCEPTED_FOR
        } else {
            REFUSED_FOR
        };
        (asked.elapsed() < holds_for).then(|| user.clone())
    }
}

/// A token counts if it is valid and meant for us.
fn accepted(status: TokenReviewStatus) -> Option<String> {
    let is_for_us = status
        .audiences
        .is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE));
    let user = status
        .user
        .and_then(|user| user.username)
        .filter(|name| !name.is_empty());
    user.filter(|_| status.authenticated == Some(true) && is_for_us)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::TokenReviewStatus;
    use serde_json::{Value, json};

    use super::accepted;

    #[track_caller]
    fn check(status: Value, expected: Option<&str>) {
        let status: TokenReviewStatus = serde_json::from_value(status).expect("a status");
        assert_eq!(accepted(status).as_deref(), expected);
    }

    #[test]
    fn a_token_must_be_valid_and_meant_for_us() {
        let user = json!({"username": "system:serviceaccount:s:g"});
        check(
            json!({"authenticated": true, "audiences": ["quarterdeck"], "user": user}),
            Some("system:serviceaccount:s:g"),
        );
        check(
            json!({"authenticated": true, "audiences": ["other"], "user": user}),
            None,
        );
        check(json!({"authenticated": true, "user": user}), None);
        check(
            json!({"authenticated": false, "audiences": ["quarterdeck"], "user": user}),
            None,
        );
        check(
            json!({"authenticated": true, "audiences": ["quarterdeck"]}),
            None,
        );
    }
}
