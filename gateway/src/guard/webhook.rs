//! Webhooks: a service of the route's owner judges texts.
//!
//! Question and answer have the shape of LiteLLM's generic guardrail API, so that services which were written for it go
//! on working. A question is signed, so that the service can tell who asks.

mod stage;

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use protocol::{
    key::hex,
    snapshot::{Mode, OnFailure},
};
use ring::hmac;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;

pub(super) use self::stage::Stage;
use super::{
    Guard,
    session::{Phase, Services, Session},
};
use crate::{fault::Fault, upstream::Upstream};

/// Bytes of a question.
const QUESTION_BYTES_MAX: usize = 8 << 20;
/// Bytes of an answer besides the texts that it may repeat.
const ANSWER_BYTES: usize = 64 << 10;
/// Characters of a reason that the client is told.
const REASON_CHARACTERS_MAX: usize = 300;
/// The header with the signature.
const SIGNATURE: &str = "x-quarterdeck-signature";
/// What findings are called in logs and metrics.
const KIND: &str = "WEBHOOK";

/// A service that is asked.
#[derive(Debug)]
pub(super) struct Webhook {
    url: Uri,
    timeout: Duration,
    on_failure: OnFailure,
    signer: Option<hmac::Key>,
}

/// What a service says of texts.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// They pass.
    Pass,
    /// These come in their place.
    Change(Vec<String>),
    /// They do not pass.
    Block(Option<String>),
}

/// Why there is no judgement.
#[derive(Debug, Error)]
enum Unanswered {
    #[error("the texts are more than {QUESTION_BYTES_MAX} bytes")]
    TooLong,
    #[error("it did not answer within {0:?}")]
    Late(Duration),
    #[error("it cannot be reached")]
    Unreachable,
    #[error("it answered with status {0}")]
    Status(u16),
    #[error("its answer cannot be read")]
    Malformed,
}

/// What a service is asked.
#[derive(Serialize)]
struct Question<'a> {
    input_type: &'static str,
    texts: &'a [Cow<'a, str>],
    model: &'a str,
    litellm_call_id: &'a str,
    request_data: RequestData<'a>,
}

/// Who asks.
#[derive(Serialize)]
struct RequestData<'a> {
    route: &'a str,
    guard: &'a str,
    user_api_key_alias: &'a str,
    user_api_key_team_id: Option<&'a str>,
    user_api_key_user_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    action: Action,
    #[serde(default)]
    blocked_reason: Option<String>,
    #[serde(default)]
    texts: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Action {
    None,
    Blocked,
    GuardrailIntervened,
}

impl Webhook {
    /// A service.
    ///
    /// # Errors
    /// Its URL is none, in words.
    pub(super) fn compile(
        url: &str,
        timeout_millis: u64,
        on_failure: OnFailure,
        secret: Option<&str>,
    ) -> Result<Self, String> {
        let is_http = crate::table::is_http(url);
        let uri = url.parse().ok().filter(|_| is_http);
        Ok(Self {
            url: uri.ok_or_else(|| format!("`{url}` is not an http or https URL"))?,
            timeout: Duration::from_millis(timeout_millis),
            on_failure,
            signer: secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())),
        })
    }

    async fn ask(
        &self,
        client: &Upstream,
        question: &Question<'_>,
    ) -> Result<Judgement, Unanswered> {
        // Texts serialise without fail.
        let body = Bytes::from(serde_json::to_vec(question).unwrap_or_default());
        if QUESTION_BYTES_MAX < body.len() {
            return Err(Unanswered::TooLong);
        }
        let length = body.len();
        let request = self.request(body).map_err(|_| Unanswered::Unreachable)?;
        let asking = async {
            let response = client.request(request).await;
            let response = response.map_err(|_| Unanswered::Unreachable)?;
            if !response.status().is_success() {
                return Err(Unanswered::Status(response.status().as_u16()));
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES + 2 * length);
            let body = body.collect().await.map_err(|_| Unanswered::Malformed)?;
            let answer = serde_json::from_slice(&body.to_bytes());
            judgement(answer.map_err(|_| Unanswered::Malformed)?, question.texts)
        };
        let judged = timeout(self.timeout, asking).await;
        judged.map_err(|_| Unanswered::Late(self.timeout))?
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::post(&self.url);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(signer) = &self.signer {
            let seconds = Timestamp::now().as_second();
            let signed = [format!("{seconds}.").as_bytes(), &body[..]].concat();
            let tag = hex(hmac::sign(signer, &signed).as_ref());
            let value = HeaderValue::try_from(format!("t={seconds},v1={tag}"))?;
            request = request.header(SIGNATURE, value);
        }
        request.body(Full::new(body))
    }
}

fn judgement(answer: Answer, asked: &[Cow<'_, str>]) -> Result<Judgement, Unanswered> {
    Ok(match answer.action {
        Action::None => Judgement::Pass,
        Action::Blocked => Judgement::Block(answer.blocked_reason),
        Action::GuardrailIntervened => {
            let texts = answer.texts.filter(|texts| texts.len() == asked.len());
            let texts = texts.ok_or(Unanswered::Malformed)?;
            match texts.iter().zip(asked).all(|(new, old)| new == old) {
                true => Judgement::Pass,
                false => Judgement::Change(texts),
            }
        }
    })
}

impl Session {
    /// Asks a webhook about texts; those that come in their place, `None` if they pass as they are.
    ///
    /// # Errors
    /// They are blocked, or the service gave no answer and must.
    pub(super) async fn consult(
        &self,
        (guard, webhook): (&Guard, &Webhook),
        phase: Phase,
        texts: &[Cow<'_, str>],
    ) -> Result<Option<Vec<String>>, Fault> {
        let Some(services) = self.services.as_deref().filter(|_| !texts.is_empty()) else {
            return Ok(None);
        };
        let Services { asker, client } = services;
        let question = Question {
            input_type: match phase {
                Phase::Request => "request",
                Phase::Answer => "response",
            },
            texts,
            model: &asker.model,
            litellm_call_id: &self.request_id,
            request_data: RequestData {
                route: &self.route,
                guard: &guard.name,
                user_api_key_alias: &asker.key,
                user_api_key_team_id: asker.team.as_deref(),
                user_api_key_user_id: asker.user.as_deref(),
            },
        };
        let is_shadow = guard.mode == Mode::Shadow;
        match webhook.ask(client, &question).await {
            Ok(Judgement::Pass) => Ok(None),
            Ok(Judgement::Block(_) | Judgement::Change(_)) if is_shadow => {
                self.tell(guard, phase, KIND, "shadow");
                Ok(None)
            }
            Ok(Judgement::Change(texts)) => {
                self.tell(guard, phase, KIND, "masked");
                Ok(Some(texts))
            }
            Ok(Judgement::Block(reason)) => {
                self.tell(guard, phase, KIND, "blocked");
                Err(with_reason(phase.blocked(&guard.name), reason.as_deref()))
            }
            Err(unanswered) => {
                let (route, guard_name) = (&self.route, &guard.name);
                warn!(route, guard = guard_name, error = %unanswered, "a guard's service gave no judgement");
                self.tell(guard, phase, KIND, "failed");
                match webhook.on_failure {
                    OnFailure::Fail if !is_shadow => Err(phase.unjudged(guard_name)),
                    OnFailure::Fail | OnFailure::Ignore => Ok(None),
                }
            }
        }
    }
}

/// A fault with a service's reason, shortened and without what would break a line.
fn with_reason(fault: Fault, reason: Option<&str>) -> Fault {
    let plain = |reason: &str| -> String {
        let characters = reason.chars().filter(|character| !character.is_control());
        characters.take(REASON_CHARACTERS_MAX).collect()
    };
    let reason = reason.map(plain).filter(|reason| !reason.trim().is_empty());
    match reason {
        None => fault,
        Some(reason) => Fault {
            message: format!("{} {reason}", fault.message),
            ..fault
        },
    }
}
