//! Reading: what is asked of the ledger beside the keeper.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::snapshot::Per;
use rusqlite::Connection;

use super::{
    LedgerError, LoggedRow, RowQuery, Spend, SpendQuery,
    database::{Database, DatabaseUrl},
    spend,
    store::Store,
};
use crate::{limits::Scope, table::Pattern};

/// How long a database may take to say what was spent of a budget: somebody's request may wait for it.
const BUDGET_LIMIT: Duration = Duration::from_secs(1);
/// How long it may take for what an administrator asks.
const QUESTION_LIMIT: Duration = Duration::from_secs(20);

/// Where the answers are.
#[derive(Debug)]
pub(super) enum Reading {
    /// In a file.
    File {
        path: PathBuf,
        /// A connection for budgets.
        store: Mutex<Option<Store>>,
    },
    /// In a database; budgets do not wait for what administrators ask.
    Database {
        budgets: Arc<Mutex<Database>>,
        questions: Arc<Mutex<Database>>,
    },
}

impl Reading {
    /// Reads a file.
    pub(super) fn of_file(path: PathBuf) -> Self {
        Self::File {
            path,
            store: Mutex::default(),
        }
    }

    /// Reads a database.
    ///
    /// # Errors
    /// There can be no more runtimes.
    pub(super) fn of_database(url: &DatabaseUrl) -> Result<Self, LedgerError> {
        let of = |limit| {
            let database = Database::new(url, "", limit);
            database.map(|database| Arc::new(Mutex::new(database)))
        };
        Ok(Self::Database {
            budgets: of(BUDGET_LIMIT)?,
            questions: of(QUESTION_LIMIT)?,
        })
    }

    /// What was spent in a scope since then, in nano-dollars, by account; blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn spent(
        &self,
        scope: &Scope,
        per: Per,
        since: Timestamp,
    ) -> Result<HashMap<String, u64>, LedgerError> {
        let (kind, id, model) = match scope {
            Scope::Route(route) => return self.spent_of_route(route, per, since),
            Scope::Party { kind, id, model } => (*kind, id, model),
            // Targets have no budgets.
            Scope::Target { .. } => return Ok(HashMap::new()),
        };
        let by_model = match self {
            Self::File { .. } => self.read_file(|store| store.spent_by(kind, id, since)),
            Self::Database { budgets, .. } => apart(|| budgets.lock().spent_by(kind, id, since)),
        };
        let pattern = model.as_ref().and_then(|model| Pattern::parse(model).ok());
        let counts = |model: &str| pattern.as_ref().is_none_or(|only| only.matches(model));
        let counted = by_model?.into_iter().filter(|(model, _)| counts(model));
        let sum = counted
            .map(|(_, amount)| amount)
            .fold(0, u64::saturating_add);
        Ok(HashMap::from([(String::new(), sum)]))
    }

    fn spent_of_route(
        &self,
        route: &str,
        per: Per,
        since: Timestamp,
    ) -> Result<HashMap<String, u64>, LedgerError> {
        match self {
            Self::File { .. } => self.read_file(|store| store.spent(route, per, since)),
            Self::Database { budgets, .. } => apart(|| budgets.lock().spent(route, per, since)),
        }
    }

    /// Reads the file, beside the keeper; blocks.
    fn read_file<T>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let Self::File { path, store } = self else {
            return Err(LedgerError::Closed);
        };
        let mut reading = store.lock();
        let store = match reading.take() {
            Some(store) => store,
            None => Store::open(path)?,
        };
        let read = work(&store);
        // A connection that failed is not used again.
        *reading = read.is_ok().then_some(store);
        read
    }

    /// The totals that are asked for.
    ///
    /// # Errors
    /// They cannot be read, or tags are asked for together with what they are not counted by.
    pub(super) async fn spend(&self, query: SpendQuery) -> Result<Vec<Spend>, LedgerError> {
        match self {
            Self::File { path, .. } => {
                let path = path.clone();
                wait(move || spend::spend(&open(&path)?, &query)).await
            }
            Self::Database { questions, .. } => {
                let questions = Arc::clone(questions);
                wait(move || questions.lock().spend(&query)).await
            }
        }
    }

    /// The rows that are asked for, the latest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) async fn rows(&self, query: RowQuery) -> Result<Vec<LoggedRow>, LedgerError> {
        match self {
            Self::File { path, .. } => {
                let path = path.clone();
                let rows =
                    move || spend::rows(&open(&path)?, &query).map_err(|error| fault(&error));
                wait(rows).await
            }
            Self::Database { questions, .. } => {
                let questions = Arc::clone(questions);
                wait(move || questions.lock().rows(&query)).await
            }
        }
    }
}

/// Does something on a thread that is in no runtime, and waits for it.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, LedgerError> + Send) -> Result<T, LedgerError> {
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    // A thread that panicked has told so on standard error.
    joined.unwrap_or(Err(LedgerError::Closed))
}

/// Does something on a thread that may wait.
async fn wait<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(LedgerError::Storage(error.to_string())))
}

fn open(path: &std::path::Path) -> Result<Connection, LedgerError> {
    spend::reader(path).map_err(|error| fault(&error))
}

fn fault(error: &rusqlite::Error) -> LedgerError {
    LedgerError::Storage(error.to_string())
}
