//! Handovers: which part of a batch a provider runs, and how far that is. What is relied upon is in a row before.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::Objects;
use crate::fault::Fault;

/// The folder of the parts' lines, beside that of files.
const FOLDER: &str = "handovers";

/// The rows' table.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS handovers (
        batch TEXT NOT NULL,
        part INTEGER NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (batch, part)
    ) STRICT;
";

/// A part of a batch that a provider runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// The route's id.
    pub(crate) route: String,
    /// The target's name.
    pub(crate) target: String,
    /// The provider's file of its lines, once it is there.
    #[serde(default)]
    pub(crate) file: Option<String>,
    /// Whether the provider may have been asked for a batch.
    #[serde(default)]
    pub(crate) is_asked_for: bool,
    /// The provider's batch, once it is known.
    #[serde(default)]
    pub(crate) remote: Option<String>,
}

impl Objects {
    /// Where the lines of a part lie.
    pub(crate) fn part(&self, batch: &str, part: usize) -> PathBuf {
        self.handovers_folder()
            .join(format!("{batch}-{part}.jsonl"))
    }

    /// The folder of the parts' lines.
    pub(crate) fn handovers_folder(&self) -> PathBuf {
        self.folder().with_file_name(FOLDER)
    }

    /// The parts of a batch that are handed over; none before that was decided.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub(crate) async fn handovers(self: &Arc<Self>, batch: &str) -> Result<Vec<Handover>, Fault> {
        let batch = batch.to_owned();
        let records = self.with(move |connection| {
            let sql = "SELECT record FROM handovers WHERE batch = ?1 ORDER BY part";
            let mut statement = connection.prepare(sql)?;
            let records = statement.query_map([batch], |row| row.get::<_, String>(0))?;
            records.collect::<rusqlite::Result<Vec<_>>>()
        });
        let records = records.await?;
        let parsed = records.iter().map(|record| serde_json::from_str(record));
        Ok(parsed.map(Result::unwrap_or_default).collect())
    }

    /// Writes how far parts of a batch are, from this part on.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub(crate) async fn put_handovers(
        self: &Arc<Self>,
        batch: &str,
        first: usize,
        parts: Vec<Handover>,
    ) -> Result<(), Fault> {
        let batch = batch.to_owned();
        let written = self.with(move |connection| {
            for (part, handover) in (first..).zip(&parts) {
                let part = i64::try_from(part).unwrap_or(i64::MAX);
                // Our own records serialise without fail.
                let record = serde_json::to_string(handover).unwrap_or_default();
                connection.execute(
                    "INSERT OR REPLACE INTO handovers (batch, part, record) VALUES (?1, ?2, ?3)",
                    params![batch, part, record],
                )?;
            }
            Ok(())
        });
        written.await
    }

    /// Forgets the parts of a batch that has ended.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub(crate) async fn forget_handovers(
        self: &Arc<Self>,
        batch: &str,
        count: usize,
    ) -> Result<(), Fault> {
        let id = batch.to_owned();
        self.with(move |connection| {
            connection.execute("DELETE FROM handovers WHERE batch = ?1", [id])
        })
        .await?;
        for part in 0..count {
            // What cannot be removed now is removed at the next start, since no row names it.
            let _ = tokio::fs::remove_file(self.part(batch, part)).await;
        }
        Ok(())
    }
}

/// Removes rows of batches that have ended, and lines that no row names.
///
/// # Errors
/// The folder or the rows cannot be used, in words.
pub(super) fn sweep(connection: &Connection, files: &Path) -> Result<(), String> {
    let folder = files.with_file_name(FOLDER);
    let failed = |error: &dyn std::error::Error| format!("{FOLDER}: {error}");
    fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
    let ended = "DELETE FROM handovers WHERE batch NOT IN (SELECT id FROM batches WHERE is_open)";
    connection
        .execute(ended, [])
        .map_err(|error| failed(&error))?;
    let named =
        "SELECT EXISTS (SELECT 1 FROM handovers WHERE batch || '-' || part || '.jsonl' = ?1)";
    let entries = fs::read_dir(&folder).map_err(|error| failed(&error))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_named = connection.query_row(named, [name], |row| row.get(0));
        if !is_named.unwrap_or(true) {
            fs::remove_file(entry.path()).map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}
