//! Whose task is whose: an agent sees one caller, the gateway, so that the gateway must know which key a task belongs to.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use serde_json::Value;

/// Tasks that are remembered; the oldest are forgotten first.
const TASKS_MAX: usize = 65_536;
/// Bytes of a task's id.
const ID_BYTES_MAX: usize = 256;

/// The tasks that were seen.
#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    owners: HashMap<(String, String), String>,
    order: VecDeque<(String, String)>,
}

impl Tasks {
    /// Whether an account may ask for a task: it is its own, or nobody knows whose it is.
    pub(super) fn may_ask(&self, agent: &str, task: &str, account: &str) -> bool {
        let seen = self.0.lock();
        let owner = seen.owners.get(&(agent.to_owned(), task.to_owned()));
        owner.is_none_or(|owner| owner == account)
    }

    /// Notes that a task came up in an answer to an account; the first one keeps it.
    pub(super) fn note(&self, agent: &str, task: &str, account: &str) {
        if ID_BYTES_MAX < task.len() {
            return;
        }
        let place = (agent.to_owned(), task.to_owned());
        let mut seen = self.0.lock();
        if seen.owners.contains_key(&place) {
            return;
        }
        if TASKS_MAX <= seen.order.len()
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.owners.remove(&oldest);
        }
        seen.owners.insert(place.clone(), account.to_owned());
        seen.order.push_back(place);
    }
}

/// The tasks that parameters name, in the revisions' spellings.
pub(super) fn named(params: &Value) -> impl Iterator<Item = &str> {
    ["/id", "/taskId", "/message/taskId"]
        .into_iter()
        .filter_map(|place| params.pointer(place)?.as_str())
        .filter(|task| !task.is_empty())
}

/// The tasks that a result tells of, in the revisions' spellings.
pub(super) fn told(result: &Value) -> impl Iterator<Item = &str> {
    let task = (result.get("kind").and_then(Value::as_str) == Some("task")
        || result.get("status").is_some())
    .then(|| result.get("id").and_then(Value::as_str))
    .flatten();
    let elsewhere = [
        "/taskId",
        "/task/id",
        "/message/taskId",
        "/statusUpdate/taskId",
        "/artifactUpdate/taskId",
    ];
    let elsewhere = elsewhere
        .into_iter()
        .filter_map(|place| result.pointer(place)?.as_str());
    task.into_iter().chain(elsewhere)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{TASKS_MAX, Tasks, told};

    #[test]
    fn a_task_belongs_to_whom_it_was_first_told() {
        let tasks = Tasks::default();
        tasks.note("a", "t", "one");
        tasks.note("a", "t", "two");
        assert!(tasks.may_ask("a", "t", "one") && !tasks.may_ask("a", "t", "two"));
        assert!(tasks.may_ask("b", "t", "two") && tasks.may_ask("a", "u", "two"));
        for number in 0..TASKS_MAX {
            tasks.note("a", &number.to_string(), "one");
        }
        assert!(tasks.may_ask("a", "t", "two"));
        assert!(!tasks.may_ask("a", "1", "two"));
    }

    #[track_caller]
    fn check(result: &Value, expected: &[&str]) {
        assert_eq!(told(result).collect::<Vec<_>>(), expected, "{result}");
    }

    #[test]
    fn tasks_are_found_in_results_of_both_revisions() {
        check(&json!({"kind": "task", "id": "t", "status": {}}), &["t"]);
        check(
            &json!({"id": "t", "status": {"state": "TASK_STATE_WORKING"}}),
            &["t"],
        );
        check(&json!({"task": {"id": "t"}}), &["t"]);
        check(
            &json!({"kind": "status-update", "taskId": "t", "status": {}}),
            &["t"],
        );
        check(&json!({"statusUpdate": {"taskId": "t"}}), &["t"]);
        check(
            &json!({"kind": "message", "messageId": "m", "parts": []}),
            &[],
        );
    }
}
