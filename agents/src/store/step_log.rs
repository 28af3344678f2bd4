//! Steps in the log: take a run up, start a step, finish one and start the next in the same transaction.
//!
//! Every write names the epoch in which the run was taken up: a worker that lost the run cannot write.

use protocol::{
    agent::Definition,
    runs::{RunEvent, RunStatus},
};
use rusqlite::{Connection, params};

use super::{
    RunId, RunRecord, Store, StoreError, StoredEvent,
    record::{CallRecord, StepStatus, StoredStep, status_text},
    run_log::find,
};
use crate::{clock::Millis, graph::StepRecord};

/// A run that was taken up, with all that was done before.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub(crate) run: RunRecord,
    pub(crate) epoch: i64,
    pub(crate) definition: Definition,
    /// In order; only the last may be unfinished.
    pub(crate) steps: Vec<StoredStep>,
    /// Finished calls of the unfinished step, by ordinal.
    pub(crate) calls: Vec<(u32, CallRecord)>,
    pub(crate) events: Vec<StoredEvent>,
}

/// One transaction of a run: a step is done, and what follows.
#[derive(Debug, Clone)]
pub(crate) struct Advance {
    pub(crate) run: RunId,
    pub(crate) epoch: i64,
    pub(crate) finished: Option<StepRecord>,
    /// Before the events that this transaction itself implies.
    pub(crate) events: Vec<RunEvent>,
    pub(crate) following: Following,
}

/// What follows a step.
#[derive(Debug, Clone)]
pub(crate) enum Following {
    Step {
        number: u32,
        node: String,
        task: String,
    },
    End {
        status: RunStatus,
        output: Option<serde_json::Value>,
        error: Option<String>,
    },
}

/// Names a step of a run that was taken up.
#[derive(Debug, Clone)]
pub(crate) struct StepKey {
    pub(crate) run: RunId,
    pub(crate) epoch: i64,
    pub(crate) number: u32,
}

/// What a transaction wrote.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) events: Vec<StoredEvent>,
}

impl Store {
    /// Takes a run up: from now on only this epoch writes.
    ///
    /// # Errors
    /// [`StoreError::NotOwner`] if the run has ended.
    pub(crate) async fn take(&self, id: RunId) -> Result<Started, StoreError> {
        self.write(move |connection| take(connection, &id)).await
    }

    /// Commits a step and what follows it.
    ///
    /// # Errors
    /// [`StoreError::NotOwner`] if the run was taken up again, or ended.
    pub(crate) async fn advance(&self, advance: Advance) -> Result<Progress, StoreError> {
        self.write(move |connection| commit(connection, advance))
            .await
    }

    /// Notes that a step is tried again, before it is.
    pub(crate) async fn retry(&self, key: StepKey, attempt: u32) -> Result<(), StoreError> {
        self.write(move |connection| {
            fence(connection, &key.run, key.epoch)?;
            connection
                .prepare_cached("UPDATE step SET attempt = ?3 WHERE run = ?1 AND number = ?2")?
                .execute(params![key.run.0, key.number, attempt])?;
            Ok(())
        })
        .await
    }

    /// Keeps what a tool call gave.
    pub(crate) async fn record_call(
        &self,
        key: StepKey,
        ordinal: u32,
        record: CallRecord,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            fence(connection, &key.run, key.epoch)?;
            let outcome = serde_json::to_string(&record)?;
            connection
                .prepare_cached("INSERT OR REPLACE INTO call (run, step, ordinal, outcome) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![key.run.0, key.number, ordinal, outcome])?;
            Ok(())
        })
        .await
    }

    /// Gives a run back at shutdown: it waits for the next start, which is no recovery from a crash.
    pub(crate) async fn park(&self, id: RunId, epoch: i64) -> Result<(), StoreError> {
        self.write(move |connection| {
            fence(connection, &id, epoch)?;
            connection
                .prepare_cached("UPDATE run SET status = 'pending' WHERE id = ?1")?
                .execute([&id.0])?;
            Ok(())
        })
        .await
    }
}

fn take(connection: &Connection, id: &RunId) -> Result<Started, StoreError> {
    let taken = connection
        .prepare_cached(
            "UPDATE run SET epoch = epoch + 1, resumes = resumes + (status = 'running'), status = 'running', \
             started = COALESCE(started, ?2) WHERE id = ?1 AND status IN ('pending', 'running')",
        )?
        .execute(params![id.0, Millis::now().0])?;
    if taken == 0 {
        return Err(StoreError::NotOwner);
    }
    let run = find(connection, id)?;
    let events = append_events(
        connection,
        id,
        vec![RunEvent::Started {
            resumes: run.resumes,
        }],
    )?;
    let epoch = connection
        .prepare_cached("SELECT epoch FROM run WHERE id = ?1")?
        .query_row([&id.0], |row| row.get(0))?;
    let definition: String = connection
        .prepare_cached("SELECT definition FROM revision WHERE hash = ?1")?
        .query_row([&run.revision.0], |row| row.get(0))?;
    let steps = steps(connection, id)?;
    let calls = match steps.last() {
        Some(StoredStep {
            status: StepStatus::Started,
            number,
            ..
        }) => calls(connection, id, *number)?,
        Some(_) | None => Vec::new(),
    };
    Ok(Started {
        run,
        epoch,
        definition: serde_json::from_str(&definition)?,
        steps,
        calls,
        events,
    })
}

fn steps(connection: &Connection, id: &RunId) -> Result<Vec<StoredStep>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, node, task, attempt, status, writes, tool_calls, usage FROM step WHERE run = ?1 ORDER BY number",
    )?;
    let mut rows = statement.query([&id.0])?;
    let mut steps = Vec::new();
    while let Some(row) = rows.next()? {
        let status = match row.get::<_, String>(4)?.as_str() {
            "finished" => StepStatus::Finished {
                writes: serde_json::from_str(
                    &row.get::<_, Option<String>>(5)?.unwrap_or_default(),
                )?,
                tool_calls: row.get(6)?,
                usage: row
                    .get::<_, Option<String>>(7)?
                    .as_deref()
                    .map(serde_json::from_str)
                    .transpose()?,
            },
            _ => StepStatus::Started,
        };
        steps.push(StoredStep {
            number: row.get(0)?,
            node: row.get(1)?,
            task: row.get(2)?,
            attempt: row.get(3)?,
            status,
        });
    }
    Ok(steps)
}

fn calls(
    connection: &Connection,
    id: &RunId,
    step: u32,
) -> Result<Vec<(u32, CallRecord)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT ordinal, outcome FROM call WHERE run = ?1 AND step = ?2 ORDER BY ordinal",
    )?;
    let mut rows = statement.query(params![id.0, step])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        calls.push((
            row.get(0)?,
            serde_json::from_str(&row.get::<_, String>(1)?)?,
        ));
    }
    Ok(calls)
}

fn fence(connection: &Connection, id: &RunId, epoch: i64) -> Result<(), StoreError> {
    let is_ours = connection
        .prepare_cached("SELECT 1 FROM run WHERE id = ?1 AND epoch = ?2 AND status = 'running'")?
        .exists(params![id.0, epoch])?;
    if is_ours {
        Ok(())
    } else {
        Err(StoreError::NotOwner)
    }
}

fn commit(connection: &Connection, advance: Advance) -> Result<Progress, StoreError> {
    let Advance {
        run,
        epoch,
        finished,
        mut events,
        following,
    } = advance;
    fence(connection, &run, epoch)?;
    if let Some(record) = finished {
        finish_step(connection, &run, &record)?;
        events.push(RunEvent::StepFinished {
            step: record.number,
            node: record.node,
            writes: serde_json::Value::Object(record.writes),
        });
    }
    match following {
        Following::Step { number, node, task } => {
            connection
                .prepare_cached(
                    "INSERT INTO step (run, number, node, task, attempt, status, started) \
                     VALUES (?1, ?2, ?3, ?4, 1, 'started', ?5)",
                )?
                .execute(params![run.0, number, node, task, Millis::now().0])?;
            events.push(RunEvent::StepStarted { step: number, node });
        }
        Following::End {
            status,
            output,
            error,
        } => {
            connection
                .prepare_cached(
                    "UPDATE run SET status = ?2, output = ?3, error = ?4, ended = ?5 WHERE id = ?1",
                )?
                .execute(params![
                    run.0,
                    status_text(status),
                    output.as_ref().map(ToString::to_string),
                    error,
                    Millis::now().0
                ])?;
            events.push(RunEvent::Finished {
                status,
                output,
                error,
            });
        }
    }
    Ok(Progress {
        events: append_events(connection, &run, events)?,
    })
}

fn finish_step(
    connection: &Connection,
    run: &RunId,
    record: &StepRecord,
) -> Result<(), StoreError> {
    let usage = record
        .usage
        .as_ref()
        .map(serde_json::to_string)
        .transpose()?;
    let writes = serde_json::to_string(&record.writes)?;
    let changed = connection
        .prepare_cached(
            "UPDATE step SET status = 'finished', writes = ?3, tool_calls = ?4, usage = ?5, finished = ?6 \
             WHERE run = ?1 AND number = ?2 AND status = 'started'",
        )?
        .execute(params![run.0, record.number, writes, record.tool_calls, usage, Millis::now().0])?;
    if changed != 1 {
        return Err(StoreError::Corrupt {
            reason: format!("step {} was not started", record.number),
        });
    }
    connection
        .prepare_cached("UPDATE run SET steps = steps + 1 WHERE id = ?1")?
        .execute([&run.0])?;
    // The calls are part of what the step wrote.
    connection
        .prepare_cached("DELETE FROM call WHERE run = ?1 AND step = ?2")?
        .execute(params![run.0, record.number])?;
    Ok(())
}

/// Numbers events and keeps them.
pub(super) fn append_events(
    connection: &Connection,
    run: &RunId,
    events: Vec<RunEvent>,
) -> Result<Vec<StoredEvent>, StoreError> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let last: i64 = connection
        .prepare_cached("UPDATE run SET events = events + ?2 WHERE id = ?1 RETURNING events")?
        .query_row(params![run.0, count], |row| row.get(0))?;
    let mut insert =
        connection.prepare_cached("INSERT INTO event (run, seq, data) VALUES (?1, ?2, ?3)")?;
    let mut stored = Vec::with_capacity(events.len());
    for (seq, event) in (last - count + 1..).zip(events) {
        insert.execute(params![run.0, seq, serde_json::to_string(&event)?])?;
        stored.push(StoredEvent {
            seq: unsigned(seq),
            event,
        });
    }
    Ok(stored)
}

/// SQLite counts with a sign; what we count never goes below zero.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
