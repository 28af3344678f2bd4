//! A fake of a provider's files and batches: it runs them when a test says so, and fails when a test says so.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::scripted_server::{Asked, Reply, ScriptedServer};

/// What lets in.
pub(super) const KEY: &str = "provider-key";

/// How a batch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It does not, yet.
    Running,
    /// Every line has an answer.
    Completed,
    /// There was time for the first line only.
    Expired,
    /// Nothing was begun.
    Failed,
    /// The first line has an answer, the others an error.
    Partial,
    /// Nothing is said of the other lines.
    Silent,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, String>,
    /// The uploads, also those that were removed.
    uploads: Vec<String>,
    batches: Vec<Value>,
    faults: HashMap<String, VecDeque<Reply>>,
    phase: Option<Phase>,
    /// Whether the next batch is made without an answer, and how many of others follow it.
    loses_answer: Option<usize>,
    cuts_content: bool,
    polls: usize,
    count: usize,
}

/// A provider.
pub(super) struct Fake {
    pub(super) server: ScriptedServer,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = ScriptedServer::start(move |asked| shared.lock().answer(asked)).await;
        Self { server, state }
    }

    /// How batches end from now on.
    pub(super) fn run(&self, phase: Phase) {
        self.state.lock().phase = Some(phase);
    }

    /// Fails the next request for a path, `poll` or `content` once in this way, after those before.
    pub(super) fn fail(&self, path: &str, reply: Reply) {
        let mut state = self.state.lock();
        state
            .faults
            .entry(path.to_owned())
            .or_default()
            .push_back(reply);
    }

    /// Makes the next batch and says that it did not; so many batches of somebody else's come after it.
    pub(super) fn lose_answer(&self, others: usize) {
        self.state.lock().loses_answer = Some(others);
    }

    /// Whether files of answers break off after their lines, before their end.
    pub(super) fn cut_content(&self, is_cut: bool) {
        self.state.lock().cuts_content = is_cut;
    }

    /// Waits until somebody has asked how far a batch is.
    pub(super) async fn until_polled(&self) {
        while self.state.lock().polls == 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn batches(&self) -> Vec<Value> {
        self.state.lock().batches.clone()
    }

    pub(super) fn files(&self) -> Vec<String> {
        self.state.lock().files.keys().cloned().collect()
    }

    /// The lines of an upload.
    pub(super) fn lines_of(&self, upload: usize) -> Vec<Value> {
        parse(&self.state.lock().uploads[upload])
    }
}

impl State {
    fn id(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}-{}", self.count)
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        let key = [asked.header("authorization"), asked.header("api-key")];
        if !key.contains(&format!("Bearer {KEY}").as_str()) && !key.contains(&KEY) {
            return Reply::text(401, "");
        }
        let path = asked
            .path
            .replace("/openai/v1/", "/v1/")
            .replace("/openai/", "/v1/");
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        let place = match &parts[..] {
            ["batches", _] => "poll",
            ["files", _, "content"] => "content",
            _ if asked.method == Method::POST => path,
            _ => "",
        };
        let fault = self.faults.get_mut(place).and_then(VecDeque::pop_front);
        if let Some(fault) = fault {
            return fault;
        }
        match (&asked.method, &parts[..]) {
            (&Method::POST, ["files"]) => self.take_file(&asked.text()),
            (&Method::GET, ["files", id, "content"]) => self.content(id),
            (&Method::DELETE, ["files", id]) => {
                self.files.remove(*id);
                Reply::json(200, &json!({"deleted": true}))
            }
            (&Method::POST, ["batches"]) => self.make(asked.json()),
            (&Method::GET, ["batches"]) => self.list(query),
            (&Method::GET, ["batches", id]) => self.poll(id),
            (&Method::POST, ["batches", id, "cancel"]) => {
                let batch = self.batches.iter_mut().find(|batch| batch["id"] == *id);
                batch.unwrap()["status"] = json!("cancelling");
                Reply::json(200, &json!({}))
            }
            _ => Reply::text(404, ""),
        }
    }

    fn take_file(&mut self, form: &str) -> Reply {
        assert!(form.contains("name=\"purpose\"\r\n\r\nbatch\r\n"), "{form}");
        let (_, rest) = form.split_once("application/jsonl\r\n\r\n").unwrap();
        let (lines, _) = rest.split_once("\r\n--").unwrap();
        let id = self.id("file");
        self.files.insert(id.clone(), lines.to_owned());
        self.uploads.push(lines.to_owned());
        Reply::json(200, &json!({"id": id, "object": "file"}))
    }

    fn make(&mut self, mut body: Value) -> Reply {
        body["id"] = json!(self.id("batch"));
        body["status"] = json!("validating");
        self.batches.push(body.clone());
        let Some(others) = self.loses_answer.take() else {
            return Reply::json(200, &body);
        };
        for _ in 0..others {
            let id = self.id("batch");
            let other = json!({"id": id, "status": "completed", "metadata": null});
            self.batches.push(other);
        }
        Reply::text(502, "")
    }

    /// A page, newest first.
    fn list(&self, query: &str) -> Reply {
        let after = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("after="));
        let newest = self.batches.iter().rev();
        let rest: Vec<&Value> = match after {
            None => newest.collect(),
            Some(after) => newest
                .skip_while(|batch| batch["id"] != after)
                .skip(1)
                .collect(),
        };
        let page: Vec<&Value> = rest.iter().copied().take(100).collect();
        let has_more = page.len() < rest.len();
        Reply::json(200, &json!({"data": page, "has_more": has_more}))
    }

    fn poll(&mut self, id: &str) -> Reply {
        self.polls += 1;
        let place = self.batches.iter().position(|batch| batch["id"] == id);
        let Some(place) = place else {
            return Reply::text(404, "");
        };
        let batch = self.batches[place].clone();
        let is_cancelled = batch["status"] == "cancelling";
        let phase = match is_cancelled {
            true => Phase::Expired,
            false => self.phase.unwrap_or(Phase::Running),
        };
        if phase != Phase::Running && batch["output_file_id"].is_null() {
            let ended = self.end(batch, phase, is_cancelled);
            self.batches[place] = ended;
        }
        Reply::json(200, &self.batches[place]).with("retry-after", "0")
    }

    /// The batch at its end, whose files are made.
    fn end(&mut self, mut batch: Value, phase: Phase, is_cancelled: bool) -> Value {
        let status = match phase {
            Phase::Running | Phase::Completed | Phase::Partial | Phase::Silent => "completed",
            Phase::Expired if is_cancelled => "cancelled",
            Phase::Expired => "expired",
            Phase::Failed => "failed",
        };
        batch["status"] = json!(status);
        if phase == Phase::Failed {
            batch["errors"] = json!({"object": "list", "data": [{"message": "No such model."}]});
            return batch;
        }
        let input = batch["input_file_id"].as_str().unwrap();
        let lines = parse(&self.files[input]);
        let (mut answers, mut errors) = (String::new(), String::new());
        for (place, line) in lines.iter().enumerate() {
            let id = line["custom_id"].as_str().unwrap();
            let is_answered = place == 0 || phase == Phase::Completed;
            let written = match (is_answered, phase) {
                (true, _) => ran(id),
                (false, Phase::Partial) => {
                    let body = json!({"error": {"message": "too hot"}});
                    json!({"custom_id": id, "response": {"status_code": 400, "body": body}, "error": null})
                }
                (false, Phase::Expired) => {
                    let code = if is_cancelled {
                        "batch_cancelled"
                    } else {
                        "batch_expired"
                    };
                    json!({"custom_id": id, "response": null, "error": {"code": code, "message": "no"}})
                }
                (false, _) => continue,
            };
            let file = if is_answered {
                &mut answers
            } else {
                &mut errors
            };
            file.push_str(&format!("{written}\n"));
        }
        for (name, text) in [("output_file_id", answers), ("error_file_id", errors)] {
            if !text.is_empty() {
                let id = self.id("file");
                self.files.insert(id.clone(), text);
                batch[name] = json!(id);
            }
        }
        batch
    }

    fn content(&mut self, id: &str) -> Reply {
        let Some(text) = self.files.get(id) else {
            return Reply::text(404, "");
        };
        let reply = Reply::text(200, text);
        match self.cuts_content {
            true => reply.cut(),
            false => reply,
        }
    }
}

/// What a line has as its answer.
fn ran(id: &str) -> Value {
    let body = json!({
        "id": "c", "object": "chat.completion", "model": "real",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": format!("ran {id}")}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    });
    json!({"id": "r", "custom_id": id, "response": {"status_code": 200, "request_id": "theirs", "body": body}, "error": null})
}

fn parse(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
