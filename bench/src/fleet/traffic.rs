//! The clients: every session of a workload asks its turns, one after the other, in real time.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use reqwest::Client;
use testkit::traffic::{Workload, agents, conversations, documents};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::gateway::KEY;

/// The kinds of traffic.
pub(super) const NAMES: [&str; 3] = ["conversations", "agents", "documents"];

/// A request that is too short to be cached.
const HELLO: &str =
    r#"{"model":"m","stream":true,"max_tokens":1,"messages":[{"role":"user","content":"Hello"}]}"#;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// The traffic of a name.
pub(super) fn workload(name: &str) -> Result<Workload> {
    let workloads = [conversations, agents, documents];
    let all = workloads.into_iter().zip(NAMES);
    let found = all
        .into_iter()
        .find(|(_, known)| *known == name)
        .with_context(|| format!("no traffic is called `{name}`; there are {NAMES:?}"))?;
    Ok(found.0())
}

/// How long a gateway may take until its first right answer: some look for their engines after they are ready.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const FIRST_ANSWER_INTERVAL: Duration = Duration::from_millis(100);

/// Sends all of it, once the gateway answers at all; the times to the first tokens.
pub(super) async fn send(workload: Arc<Workload>, port: u16, speed: f64) -> Result<Vec<Duration>> {
    let client = Client::builder().no_proxy().build();
    let client = client.context("building the client")?;
    let waits_since = Instant::now();
    while let Err(error) = ask(&client, port, HELLO.to_owned()).await {
        ensure!(waits_since.elapsed() < FIRST_ANSWER_TIMEOUT, error);
        sleep_until(Instant::now() + FIRST_ANSWER_INTERVAL).await;
    }
    let began = Instant::now();
    let mut sessions = JoinSet::new();
    for session in 0..workload.sessions.len() {
        let (client, workload) = (client.clone(), Arc::clone(&workload));
        sessions
            .spawn(async move { converse(&client, &workload, session, port, speed, began).await });
    }
    let mut first_tokens = Vec::new();
    while let Some(session) = sessions.join_next().await {
        first_tokens.extend(session.context("waiting for a session")??);
    }
    Ok(first_tokens)
}

async fn converse(
    client: &Client,
    workload: &Workload,
    session: usize,
    port: u16,
    speed: f64,
    began: Instant,
) -> Result<Vec<Duration>> {
    let session = &workload.sessions[session];
    let lasting = |seconds: f64| Duration::from_secs_f64(seconds / speed);
    let mut asks_at = began + lasting(session.begins_at);
    let mut first_tokens = Vec::new();
    for (number, turn) in session.turns.iter().enumerate() {
        if 0 < number {
            asks_at = Instant::now() + lasting(turn.thinks);
        }
        sleep_until(asks_at).await;
        let asked = ask(client, port, session.body(turn));
        let first_token = timeout(REQUEST_TIMEOUT, asked).await;
        first_tokens.push(first_token.context("waiting for an answer")??);
    }
    Ok(first_tokens)
}

/// Asks once and reads all of the answer; the time to its first bytes of content.
async fn ask(client: &Client, port: u16, body: String) -> Result<Duration> {
    let asked = Instant::now();
    let request = client
        .post(format!("http://127.0.0.1:{port}/v1/chat/completions"))
        .bearer_auth(KEY)
        .header("content-type", "application/json")
        .body(body);
    let response = request.send().await.context("sending a request")?;
    let status = response.status();
    let mut pieces = response.bytes_stream();
    let (mut first_token, mut text) = (None, Vec::new());
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece.context("reading an answer")?);
        if first_token.is_none() && contains(&text, b"\"content\"") {
            first_token = Some(asked.elapsed());
        }
    }
    let shown = String::from_utf8_lossy(&text[..text.len().min(300)]);
    ensure!(
        status.is_success() && contains(&text, b"[DONE]"),
        "status {status}: {shown}"
    );
    first_token.with_context(|| format!("an answer without content: {shown}"))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
