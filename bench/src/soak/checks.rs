//! A request sent, and whether what came back is what the protocol allows.

use std::collections::BTreeMap;

use reqwest::{Client, Response, StatusCode, header};
use serde_json::Value;

use crate::clients::Events;

use super::requests::{Expected, Kind, Request, satisfies_schema};

const SHOWN_CHARACTERS: usize = 300;

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    AsExpected,
    /// The queue was full, and the server said so.
    Refused,
    /// A structured answer that its length limit has ended.
    CutInSchema,
    Fault(String),
}

/// Sends a request and judges the answer.
pub(super) async fn send(client: &Client, port: u16, request: &Request) -> Outcome {
    let url = format!("http://127.0.0.1:{port}{}", request.path);
    let builder = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(request.body.clone());
    let sent = builder.send();
    let response = if request.expected == (Expected::GoneAfter { pieces: 0 }) {
        // The client goes away while the request waits or is computed.
        match tokio::time::timeout(std::time::Duration::from_millis(30), sent).await {
            Ok(response) => response,
            Err(_) => return Outcome::AsExpected,
        }
    } else {
        sent.await
    };
    let response = match response {
        Ok(response) => response,
        Err(error) => return Outcome::Fault(format!("no answer: {error:?}")),
    };
    match judge(response, request).await {
        Ok(outcome) => outcome,
        Err(what) => Outcome::Fault(what),
    }
}

async fn judge(response: Response, request: &Request) -> Result<Outcome, String> {
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        if !response.headers().contains_key(header::RETRY_AFTER) {
            return Err("429 without Retry-After".to_owned());
        }
        return check_error(&text(response).await?).map(|()| Outcome::Refused);
    }
    if request.expected == Expected::Error {
        if !status.is_client_error() {
            return Err(format!("an invalid request was answered with {status}"));
        }
        return check_error(&text(response).await?).map(|()| Outcome::AsExpected);
    }
    if status != StatusCode::OK {
        return Err(format!("{status}: {}", shown(&text(response).await?)));
    }
    match request.expected {
        Expected::Streamed {
            answers,
            tokens_max,
        } => {
            let answer = read_stream(response).await?;
            answer.check(answers, tokens_max)?;
            answer.check_schema(request.kind)
        }
        Expected::Whole {
            answers,
            tokens_max,
        } => {
            let body = text(response).await?;
            let body: Value =
                serde_json::from_str(&body).map_err(|error| format!("no JSON: {error}"))?;
            let mut answer = Answer::default();
            answer.take(&body, "message")?;
            answer.is_done = true;
            answer.check(answers, tokens_max)?;
            Ok(Outcome::AsExpected)
        }
        Expected::GoneAfter { pieces } => leave(response, pieces).await,
        Expected::Error => Err("an invalid request was answered".to_owned()),
    }
}

/// Reads some pieces and drops the connection.
async fn leave(mut response: Response, pieces: usize) -> Result<Outcome, String> {
    for _ in 0..pieces {
        match response.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => return Err(format!("the stream broke: {error}")),
        }
    }
    Ok(Outcome::AsExpected)
}

/// What a stream or a body has said so far.
#[derive(Debug, Default)]
struct Answer {
    texts: BTreeMap<u64, String>,
    finishes: BTreeMap<u64, String>,
    tokens: Option<u64>,
    is_done: bool,
}

impl Answer {
    fn take(&mut self, event: &Value, part: &str) -> Result<(), String> {
        if event["error"].is_object() {
            return Err(format!(
                "an error inside the answer: {}",
                shown(&event.to_string())
            ));
        }
        for choice in event["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().ok_or("a choice without index")?;
            let text = self.texts.entry(index).or_default();
            text.push_str(choice[part]["content"].as_str().unwrap_or_default());
            if let Some(reason) = choice["finish_reason"].as_str()
                && self.finishes.insert(index, reason.to_owned()).is_some()
            {
                return Err(format!("choice {index} has finished twice"));
            }
        }
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            self.tokens = Some(tokens);
        }
        Ok(())
    }

    fn check(&self, answers: u64, tokens_max: u64) -> Result<(), String> {
        if !self.is_done {
            return Err("the stream ended without [DONE]".to_owned());
        }
        let finished: Vec<u64> = self.finishes.keys().copied().collect();
        if finished != (0..answers).collect::<Vec<_>>() {
            return Err(format!(
                "{answers} answers were asked, {finished:?} finished"
            ));
        }
        let known = ["stop", "length"];
        if let Some(reason) = self
            .finishes
            .values()
            .find(|reason| !known.contains(&reason.as_str()))
        {
            return Err(format!("an answer finished with {reason}"));
        }
        match self.tokens {
            Some(tokens) if (1..=answers * tokens_max).contains(&tokens) => Ok(()),
            tokens => Err(format!(
                "{tokens:?} tokens in {answers} answers of at most {tokens_max}"
            )),
        }
    }

    fn check_schema(&self, kind: Kind) -> Result<Outcome, String> {
        if kind != Kind::Grammar {
            return Ok(Outcome::AsExpected);
        }
        let (text, finish) = (self.texts.get(&0), self.finishes.get(&0));
        if finish.is_some_and(|finish| finish == "length") {
            return Ok(Outcome::CutInSchema);
        }
        match text {
            Some(text) if satisfies_schema(text) => Ok(Outcome::AsExpected),
            text => Err(format!(
                "not what the schema asks for: {}",
                shown(text.map_or("", String::as_str))
            )),
        }
    }
}

async fn read_stream(mut response: Response) -> Result<Answer, String> {
    let (mut answer, mut events) = (Answer::default(), Events::default());
    loop {
        let piece = response.chunk().await;
        let Some(piece) = piece.map_err(|error| format!("the stream broke: {error}"))? else {
            break;
        };
        for event in events.push(&piece) {
            answer.take(&event, "delta")?;
        }
    }
    answer.is_done = events.is_done();
    Ok(answer)
}

async fn text(response: Response) -> Result<String, String> {
    let text = response.text().await;
    text.map_err(|error| format!("the answer broke: {error}"))
}

/// Whether a body is an error in OpenAI's shape.
fn check_error(body: &str) -> Result<(), String> {
    let error: Value = serde_json::from_str(body).unwrap_or_default();
    let has = |name: &str| {
        error["error"][name]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    };
    if has("message") && has("type") {
        Ok(())
    } else {
        Err(format!("not an error in OpenAI's shape: {}", shown(body)))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Answer, check_error};

    #[track_caller]
    fn check(events: &[serde_json::Value], answers: u64, expected: Result<(), &str>) {
        let mut answer = Answer {
            is_done: true,
            ..Answer::default()
        };
        let taken = events
            .iter()
            .try_for_each(|event| answer.take(event, "delta"));
        let checked = taken.and_then(|()| answer.check(answers, 10));
        assert_eq!(checked, expected.map_err(str::to_owned), "{events:?}");
    }

    #[test]
    fn an_answer_must_be_whole() {
        let text = json!({"choices": [{"index": 0, "delta": {"content": "a"}}]});
        let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        let usage = json!({"choices": [], "usage": {"completion_tokens": 3}});
        check(&[text.clone(), end.clone(), usage.clone()], 1, Ok(()));
        check(
            &[text.clone(), usage.clone()],
            1,
            Err("1 answers were asked, [] finished"),
        );
        check(
            &[end.clone(), end.clone()],
            1,
            Err("choice 0 has finished twice"),
        );
        check(
            &[end.clone(), usage],
            2,
            Err("2 answers were asked, [0] finished"),
        );
        check(
            &[text, end],
            1,
            Err("None tokens in 1 answers of at most 10"),
        );
        let error = json!({"error": {"message": "no"}});
        check(
            &[error],
            1,
            Err(r#"an error inside the answer: {"error":{"message":"no"}}"#),
        );
    }

    #[test]
    fn an_error_has_a_message_and_a_type() {
        assert_eq!(
            check_error(r#"{"error":{"message":"no","type":"t"}}"#),
            Ok(())
        );
        for body in [
            "",
            "no",
            r#"{"error":"no"}"#,
            r#"{"error":{"message":"no"}}"#,
        ] {
            assert!(check_error(body).is_err(), "{body}");
        }
    }
}
