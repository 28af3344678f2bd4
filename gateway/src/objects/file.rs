//! Files: their rows, and what clients see of them.

use std::sync::Arc;

use jiff::Timestamp;
use protocol::openai::ErrorKind;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde::Serialize;

use super::{Objects, Page};
use crate::fault::Fault;

/// Files that one key may have.
const FILES_PER_KEY_MAX: u64 = 10_000;
/// What a file of somebody has, and has not outlived.
const COLUMNS: &str = "id, purpose, filename, bytes, created_at, expires_at";

/// A file, as OpenAI's clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct File {
    /// Its id.
    pub(crate) id: String,
    /// Always `file`.
    pub(crate) object: &'static str,
    /// How long it is.
    pub(crate) bytes: u64,
    /// Unix seconds.
    pub(crate) created_at: i64,
    /// Unix seconds after which it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<i64>,
    /// What the client called it.
    pub(crate) filename: String,
    /// What it is for.
    pub(crate) purpose: String,
    /// Always `processed`: nothing has to be made of it.
    pub(crate) status: &'static str,
}

/// What a client may say that a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Purpose(&'static str);

impl Purpose {
    /// What results of batches are for.
    pub(crate) const BATCH_OUTPUT: Self = Self("batch_output");

    /// What a client says.
    ///
    /// # Errors
    /// It is none of OpenAI's.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        const KNOWN: [&str; 6] = [
            "assistants",
            "batch",
            "fine-tune",
            "vision",
            "user_data",
            "evals",
        ];
        let known = KNOWN.into_iter().find(|known| *known == text);
        known.map(Self).ok_or_else(|| {
            let message = format!(
                "The parameter `purpose` must be one of {}.",
                KNOWN.join(", ")
            );
            Fault::of(ErrorKind::InvalidRequest, "purpose", message)
        })
    }

    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        self.0
    }
}

impl File {
    /// A file that is made now.
    pub(crate) fn new(id: String, purpose: Purpose, filename: String, bytes: u64) -> Self {
        Self {
            id,
            object: "file",
            bytes,
            created_at: Timestamp::now().as_second(),
            expires_at: None,
            filename,
            purpose: purpose.word().to_owned(),
            status: "processed",
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let bytes: i64 = row.get(3)?;
        Ok(Self {
            id: row.get(0)?,
            object: "file",
            bytes: bytes.unsigned_abs(),
            created_at: row.get(4)?,
            expires_at: row.get(5)?,
            filename: row.get(2)?,
            purpose: row.get(1)?,
            status: "processed",
        })
    }

    /// Writes its row.
    ///
    /// # Errors
    /// The row cannot be written.
    pub(super) fn write(&self, connection: &Connection, key: &str) -> rusqlite::Result<()> {
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        connection.execute(
            "INSERT OR IGNORE INTO files (id, key, purpose, filename, bytes, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![self.id, key, self.purpose, self.filename, bytes, self.created_at, self.expires_at],
        )?;
        Ok(())
    }
}

/// Whether a file or a batch that is not done names this content.
pub(super) fn is_named(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM files WHERE id = ?1)
            OR EXISTS (SELECT 1 FROM batches WHERE is_open AND (output = ?1 OR errors = ?1))",
        [name],
        |row| row.get(0),
    )
}

impl Objects {
    /// Adds a file whose content is on disk.
    ///
    /// # Errors
    /// The key has too many files, or too large ones; the row cannot be written.
    pub(crate) async fn add_file(self: &Arc<Self>, key: &str, file: File) -> Result<File, Fault> {
        let (key, bytes_max) = (key.to_owned(), self.bytes_per_key_max);
        let added = self.with(move |connection| {
            let (count, bytes): (i64, i64) = connection.query_row(
                "SELECT count(*), coalesce(sum(bytes), 0) FROM files WHERE key = ?1",
                [&key],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let is_over = FILES_PER_KEY_MAX <= count.unsigned_abs()
                || bytes_max < bytes.unsigned_abs().saturating_add(file.bytes);
            if is_over {
                return Ok(None);
            }
            file.write(connection, &key)?;
            Ok(Some(file))
        });
        added.await?.ok_or_else(|| {
            let message = format!(
                "A key may have {FILES_PER_KEY_MAX} files with {bytes_max} bytes. Delete some, then try again."
            );
            Fault::new(ErrorKind::QuotaExceeded, message)
        })
    }

    /// A file of a key.
    ///
    /// # Errors
    /// The key has no such file.
    pub(crate) async fn file(self: &Arc<Self>, key: &str, id: &str) -> Result<File, Fault> {
        let (key, wanted, now) = (key.to_owned(), id.to_owned(), Timestamp::now().as_second());
        let found = self.with(move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM files WHERE id = ?1 AND key = ?2 AND (expires_at IS NULL OR ?3 < expires_at)"
            );
            let file = connection.query_row(&sql, params![wanted, key, now], File::read);
            file.optional()
        });
        found.await?.ok_or_else(|| no_file(id))
    }

    /// Files of a key, and whether there are more.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub(crate) async fn files(
        self: &Arc<Self>,
        key: &str,
        purpose: Option<String>,
        page: Page,
    ) -> Result<(Vec<File>, bool), Fault> {
        let (key, now) = (key.to_owned(), Timestamp::now().as_second());
        let limit = page.limit;
        let files = self.with(move |connection| {
            let (sign, order) = if page.is_ascending { (">", "ASC") } else { ("<", "DESC") };
            let sql = format!(
                "SELECT {COLUMNS} FROM files WHERE key = :key AND (:purpose IS NULL OR purpose = :purpose)
                    AND (expires_at IS NULL OR :now < expires_at)
                    AND (:after IS NULL OR place {sign} (SELECT place FROM files WHERE id = :after AND key = :key))
                 ORDER BY place {order} LIMIT :limit"
            );
            let mut statement = connection.prepare(&sql)?;
            let more = i64::try_from(page.limit + 1).unwrap_or(i64::MAX);
            let values = named_params! {
                ":key": key, ":purpose": purpose, ":now": now, ":after": page.after, ":limit": more,
            };
            let files = statement.query_map(values, File::read)?;
            files.collect::<rusqlite::Result<Vec<_>>>()
        });
        let mut files = files.await?;
        let has_more = limit < files.len();
        files.truncate(limit);
        Ok((files, has_more))
    }

    /// Deletes a file of a key, its row first.
    ///
    /// # Errors
    /// The key has no such file.
    pub(crate) async fn delete_file(self: &Arc<Self>, key: &str, id: &str) -> Result<(), Fault> {
        let (key, wanted) = (key.to_owned(), id.to_owned());
        let deleted = self.with(move |connection| {
            let values = params![wanted, key];
            connection.execute("DELETE FROM files WHERE id = ?1 AND key = ?2", values)
        });
        if deleted.await? == 0 {
            return Err(no_file(id));
        }
        // What cannot be removed now is removed at the next start, since nothing names it.
        let _ = tokio::fs::remove_file(self.path(id)).await;
        Ok(())
    }

    /// Removes files whose time is over.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub(crate) async fn remove_expired(self: &Arc<Self>) -> Result<(), Fault> {
        let now = Timestamp::now().as_second();
        let ids = self.with(move |connection| {
            let mut statement =
                connection.prepare("DELETE FROM files WHERE expires_at <= ?1 RETURNING id")?;
            let ids = statement.query_map([now], |row| row.get(0))?;
            ids.collect::<rusqlite::Result<Vec<String>>>()
        });
        for id in ids.await? {
            let _ = tokio::fs::remove_file(self.path(&id)).await;
        }
        Ok(())
    }
}

fn no_file(id: &str) -> Fault {
    let shown: String = id.chars().take(100).collect();
    Fault::of(
        ErrorKind::NotFound,
        "id",
        format!("No such File object: {shown}"),
    )
}
