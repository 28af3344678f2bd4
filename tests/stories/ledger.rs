//! kill -9 of the gateway under load, again and again: every answer that a client got is in the ledger, once.
//!
//! `cargo nextest run -p tests --run-ignored only a_thousand` does it a thousand times, in two minutes.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use protocol::key::hash_key;
use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;
use tokio::task::JoinSet;

use crate::{gateway::Gateway, harness::block_on};

const KEY: &str = "qd-crash";
/// Requests at once.
const CLIENTS: usize = 8;
/// Tokens of each answer and of its prompt, as the scripted model counts them.
const TOKENS: [i64; 2] = [3, 1];

#[test]
fn a_killed_gateway_has_every_answer_that_it_gave_in_its_ledger_once() -> Result<()> {
    crash(20)
}

#[test]
#[ignore = "takes two minutes"]
fn nothing_is_lost_or_doubled_in_a_thousand_crashes() -> Result<()> {
    crash(1000)
}

fn crash(crashes: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    block_on(async {
        let model = ScriptedModel::start(vec!["one two three".into()]).await;
        let snapshot = snapshot(&model.base_url());
        for crash in 0..crashes {
            let gateway = Gateway::start(folder.path(), &snapshot, &[]).await?;
            // Sometimes at once, sometimes after hundreds of answers.
            serve_then_kill(gateway, 1 + crash * 37 % 300, &answered).await?;
        }
        // The last one takes what is left, and ends in peace.
        Gateway::start(folder.path(), &snapshot, &[]).await?.stop()
    })?;
    let answered = answered.lock();
    ensure!(crashes < answered.len(), "only {} answers", answered.len());
    check(&folder.path().join("data/ledger.sqlite"), &answered)
}

fn check(file: &Path, answered: &BTreeSet<String>) -> Result<()> {
    let ledger = Connection::open(file)?;
    let mut statement = ledger.prepare(
        "SELECT id, completion_tokens, prompt_tokens FROM requests WHERE outcome = 'complete'",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?])))?;
    let rows: Vec<(String, [i64; 2])> = rows.collect::<Result<_, _>>()?;
    let complete: BTreeSet<String> = rows.iter().map(|(id, _)| id.clone()).collect();
    let lost: Vec<_> = answered.difference(&complete).collect();
    ensure!(
        lost.is_empty(),
        "{} answers are not in the ledger: {lost:?}",
        lost.len()
    );
    for (id, tokens) in &rows {
        ensure!(*tokens == TOKENS, "{id} has {tokens:?}");
    }
    let count = |query: &str| ledger.query_row(query, [], |row| row.get::<_, i64>(0));
    let (ended, counted) = (
        count("SELECT count(*) FROM requests")?,
        count("SELECT sum(requests) FROM usage")?,
    );
    ensure!(
        ended == counted,
        "{ended} requests ended, {counted} are counted"
    );
    ensure!(
        count("SELECT sum(completion_tokens) FROM requests")?
            == count("SELECT sum(completion_tokens) FROM usage")?
    );
    Ok(())
}

fn snapshot(upstream: &str) -> Value {
    json!({
        "routes": [{
            "namespace": "default", "name": "m", "generation": 1, "models": ["m"], "strategy": "Weighted",
            "targets": [{"name": "own", "model": "scripted", "endpoints": [upstream], "weight": 1, "priority": 0}],
        }],
        "keys": [{"id": "default/key", "hash": hash_key(KEY)}],
    })
}

/// Sends requests until so many are answered, then kills the gateway under the others.
async fn serve_then_kill(
    gateway: Gateway,
    answers: usize,
    answered: &Arc<Mutex<BTreeSet<String>>>,
) -> Result<()> {
    let count = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    let (enough, mut is_enough) = tokio::sync::watch::channel(false);
    for number in 0..CLIENTS {
        let (client, url) = (
            gateway.client(),
            format!("{}/chat/completions", gateway.url()),
        );
        let (count, answered, enough) = (Arc::clone(&count), Arc::clone(answered), enough.clone());
        let is_streamed = number % 2 == 0;
        clients.spawn(async move {
            while let Ok(id) = ask(&client, &url, is_streamed).await {
                answered.lock().insert(id);
                if answers <= count.fetch_add(1, Ordering::SeqCst) + 1 {
                    enough.send_replace(true);
                }
            }
        });
    }
    is_enough.wait_for(|is_enough| *is_enough).await?;
    drop(gateway);
    while clients.join_next().await.is_some() {}
    Ok(())
}

/// The id of a request whose whole answer came.
async fn ask(client: &reqwest::Client, url: &str, is_streamed: bool) -> Result<String> {
    let message = json!({"role": "user", "content": "hi"});
    let body = json!({"model": "m", "stream": is_streamed, "messages": [message]});
    let request = client.post(url).bearer_auth(KEY).body(body.to_string());
    let response = request.send().await?.error_for_status()?;
    let id = response.headers().get("x-request-id").context("no id")?;
    let id = id.to_str()?.to_owned();
    let answer = response.text().await?;
    ensure!(
        !is_streamed || answer.ends_with("data: [DONE]\n\n"),
        "cut off"
    );
    Ok(id)
}
