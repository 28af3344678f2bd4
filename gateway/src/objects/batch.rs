//! Batches: their rows, and what clients see of them.

use std::sync::Arc;

use protocol::openai::ErrorKind;
use rusqlite::{Connection, OptionalExtension, named_params, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{File, Objects, Page};
use crate::fault::Fault;

/// Batches of one key that are not done.
const OPEN_PER_KEY_MAX: i64 = 100;

/// A batch, as OpenAI's clients see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Its id.
    pub(crate) id: String,
    /// Always `batch`.
    pub(crate) object: String,
    /// The path that all lines are for.
    pub(crate) endpoint: String,
    /// What is wrong with the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errors: Option<Errors>,
    /// The file of the lines.
    pub(crate) input_file_id: String,
    /// The time that it may take, as `24h`.
    pub(crate) completion_window: String,
    /// How far it is.
    pub(crate) status: Status,
    /// The file of answers, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_file_id: Option<String>,
    /// The file of errors, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_file_id: Option<String>,
    /// When it was made, in Unix seconds, as all the times.
    pub(crate) created_at: i64,
    /// When its input was found to be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) in_progress_at: Option<i64>,
    /// When its time is over.
    pub(crate) expires_at: i64,
    /// When its last line was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finalizing_at: Option<i64>,
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completed_at: Option<i64>,
    /// When its input was found to be wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed_at: Option<i64>,
    /// When it ended for want of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expired_at: Option<i64>,
    /// When somebody wanted it to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cancelling_at: Option<i64>,
    /// When it ended because of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cancelled_at: Option<i64>,
    /// How many lines it has.
    pub(crate) request_counts: Counts,
    /// What the client said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Map<String, Value>>,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Its input is read.
    #[default]
    Validating,
    /// Its input is wrong.
    Failed,
    /// Its lines are answered.
    InProgress,
    /// Its files are made.
    Finalizing,
    /// Every line has an answer or an error.
    Completed,
    /// Its time was over.
    Expired,
    /// It ends early, as somebody wanted.
    Cancelling,
    /// It ended early.
    Cancelled,
}

impl Status {
    /// Whether something is still to be done.
    pub(crate) const fn is_open(self) -> bool {
        matches!(
            self,
            Self::Validating | Self::InProgress | Self::Finalizing | Self::Cancelling
        )
    }
}

/// Lines of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// All.
    pub(crate) total: u64,
    /// Those with an answer.
    pub(crate) completed: u64,
    /// Those with an error.
    pub(crate) failed: u64,
}

/// What is wrong with a batch's input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errors {
    /// Always `list`.
    pub(crate) object: String,
    /// The errors, the first ones.
    pub(crate) data: Vec<BatchError>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchError {
    /// A word for programs.
    pub(crate) code: String,
    /// A sentence.
    pub(crate) message: String,
    /// The parameter at fault.
    pub(crate) param: Option<String>,
    /// The line, from 1.
    pub(crate) line: Option<u64>,
}

/// A batch that is not done, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenBatch {
    /// The batch.
    pub(crate) batch: Batch,
    /// The key's id.
    pub(crate) key: String,
    /// The file that answers are written to.
    pub(crate) output: String,
    /// The file that errors are written to.
    pub(crate) errors: String,
}

fn parse(record: &str) -> Option<Batch> {
    serde_json::from_str(record).ok()
}

fn text(batch: &Batch) -> String {
    // Our own records serialise without fail.
    serde_json::to_string(batch).unwrap_or_default()
}

impl Objects {
    /// Adds a batch.
    ///
    /// # Errors
    /// The key has too many that are not done; the row cannot be written.
    pub(crate) async fn add_batch(self: &Arc<Self>, open: OpenBatch) -> Result<(), Fault> {
        let added = self.with(move |connection| {
            let count: i64 = connection.query_row(
                "SELECT count(*) FROM batches WHERE key = ?1 AND is_open",
                [&open.key],
                |row| row.get(0),
            )?;
            if OPEN_PER_KEY_MAX <= count {
                return Ok(false);
            }
            connection.execute(
                "INSERT INTO batches (id, key, is_open, output, errors, record) VALUES (?1, ?2, 1, ?3, ?4, ?5)",
                params![open.batch.id, open.key, open.output, open.errors, text(&open.batch)],
            )?;
            Ok(true)
        });
        if !added.await? {
            let message = format!("A key may have {OPEN_PER_KEY_MAX} batches in progress.");
            return Err(Fault::new(ErrorKind::RateLimited, message));
        }
        self.changed.notify_one();
        Ok(())
    }

    /// A batch of a key.
    ///
    /// # Errors
    /// The key has no such batch.
    pub(crate) async fn batch(self: &Arc<Self>, key: &str, id: &str) -> Result<Batch, Fault> {
        let (key, wanted) = (key.to_owned(), id.to_owned());
        let found = self.with(move |connection| {
            let record = connection.query_row(
                "SELECT record FROM batches WHERE id = ?1 AND key = ?2",
                params![wanted, key],
                |row| row.get::<_, String>(0),
            );
            Ok(record.optional()?.and_then(|record| parse(&record)))
        });
        found.await?.ok_or_else(|| no_batch(id))
    }

    /// Batches of a key, newest first, and whether there are more.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub(crate) async fn batches(
        self: &Arc<Self>,
        key: &str,
        page: Page,
    ) -> Result<(Vec<Batch>, bool), Fault> {
        let key = key.to_owned();
        let limit = page.limit;
        let records = self.with(move |connection| {
            let mut statement = connection.prepare(
                "SELECT record FROM batches WHERE key = :key
                    AND (:after IS NULL OR place < (SELECT place FROM batches WHERE id = :after AND key = :key))
                 ORDER BY place DESC LIMIT :limit",
            )?;
            let more = i64::try_from(page.limit + 1).unwrap_or(i64::MAX);
            let values = named_params! { ":key": key, ":after": page.after, ":limit": more };
            let records = statement.query_map(values, |row| row.get::<_, String>(0))?;
            records.collect::<rusqlite::Result<Vec<_>>>()
        });
        let records = records.await?;
        let has_more = limit < records.len();
        let batches = records.iter().take(limit);
        Ok((
            batches.filter_map(|record| parse(record)).collect(),
            has_more,
        ))
    }

    /// The batches that are not done, oldest first.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub(crate) async fn open_batches(self: &Arc<Self>) -> Result<Vec<OpenBatch>, Fault> {
        let open = self.with(|connection| {
            let mut statement = connection.prepare(
                "SELECT record, key, output, errors FROM batches WHERE is_open ORDER BY place",
            )?;
            let rows = statement.query_map([], |row| {
                let record: String = row.get(0)?;
                let (key, output, errors) = (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(parse(&record).map(|batch| OpenBatch {
                    batch,
                    key,
                    output,
                    errors,
                }))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(open.await?.into_iter().flatten().collect())
    }

    /// Changes a batch, and adds files that it has made in the same transaction; what it is then.
    ///
    /// # Errors
    /// There is no such batch, or the row cannot be written.
    pub(crate) async fn edit_batch<F>(
        self: &Arc<Self>,
        id: &str,
        files: Vec<File>,
        change: F,
    ) -> Result<Batch, Fault>
    where
        F: FnOnce(&mut Batch) + Send + 'static,
    {
        let wanted = id.to_owned();
        let edited = self.with(move |connection| edit(connection, &wanted, &files, change));
        edited.await?.ok_or_else(|| no_batch(id))
    }
}

fn edit(
    connection: &Connection,
    id: &str,
    files: &[File],
    change: impl FnOnce(&mut Batch),
) -> rusqlite::Result<Option<Batch>> {
    let found = connection.query_row(
        "SELECT record, key FROM batches WHERE id = ?1",
        [id],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    );
    let Some((record, key)) = found.optional()? else {
        return Ok(None);
    };
    let Some(mut batch) = parse(&record) else {
        return Ok(None);
    };
    change(&mut batch);
    for file in files {
        file.write(connection, &key)?;
    }
    connection.execute(
        "UPDATE batches SET record = ?2, is_open = ?3 WHERE id = ?1",
        params![id, text(&batch), batch.status.is_open()],
    )?;
    Ok(Some(batch))
}

fn no_batch(id: &str) -> Fault {
    let shown: String = id.chars().take(100).collect();
    Fault::of(
        ErrorKind::NotFound,
        "id",
        format!("No batch found with id '{shown}'."),
    )
}
