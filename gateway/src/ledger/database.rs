//! The ledger in PostgreSQL: one database for all replicas, each with a mark of how far its own journal came.
//!
//! - Rows, totals and the mark are written in one transaction: whatever is cut off, each row counts once.
//! - Nobody waits for it but the keeper and those who ask: it has a runtime of its own, and each use of it a limit.
//! - A connection that failed is made again after a pause, which doubles; until then everything fails at once.

mod link;
mod read;
mod schema;
mod write;

use std::{fmt, str::FromStr, time::Duration};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, config::Host};

use self::link::Link;
use super::{LedgerError, journal::Position, storage};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the database is, and what lets the gateway in.
#[derive(Clone)]
pub(crate) struct DatabaseUrl(Config);

/// Nothing of it is told.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The reason is told, the URL is not: it may hold a password.
        let mut config: Config = text
            .trim()
            .parse()
            .map_err(|_| "it is not as postgresql://USER:PASSWORD@HOST:5432/DATABASE".to_owned())?;
        let hosts = config.get_hosts();
        if hosts.is_empty() || !hosts.iter().all(|host| matches!(host, Host::Tcp(_))) {
            return Err("it names no host".to_owned());
        }
        if config.get_application_name().is_none() {
            config.application_name("quarterdeck-gateway");
        }
        Ok(Self(config))
    }
}

/// The database, as one thread after the other uses it.
pub(super) struct Database {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    link: Link,
    /// How long one use of it may take.
    limit: Duration,
    /// Whose rows are written.
    source: String,
    /// How far the journal was taken, while that is known.
    mark: Option<Position>,
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Database");
        shown.field("source", &self.source).finish_non_exhaustive()
    }
}

impl Database {
    /// The database, which is connected to when it is first used.
    ///
    /// # Errors
    /// There can be no more runtimes.
    pub(super) fn new(
        url: &DatabaseUrl,
        source: &str,
        limit: Duration,
    ) -> Result<Self, LedgerError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: Some(runtime.map_err(|error| storage(&error))?),
            link: Link::new(url.0.clone()),
            limit,
            source: source.to_owned(),
            mark: None,
        })
    }

    /// Does something with a connection; never call it on a thread of another runtime.
    fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, LedgerError> {
        let Self {
            runtime,
            link,
            limit,
            ..
        } = self;
        let runtime = runtime.as_ref().ok_or(LedgerError::Closed)?;
        runtime.block_on(link.run(*limit, work))
    }

    /// Does something that may be done twice: again with a new connection where an old one had died.
    fn run_again<T>(
        &mut self,
        work: &impl AsyncFn(&mut Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, LedgerError> {
        let was_connected = self.link.is_connected();
        let first = self.run(async |client| work(client).await);
        if first.is_err() && was_connected && !self.link.is_connected() {
            self.link.forget_pause();
            return self.run(async |client| work(client).await);
        }
        first
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Waits for nothing: the last owner may be a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DatabaseUrl;

    #[test]
    fn urls_name_a_host_and_are_not_told() {
        for bad in [
            "",
            "mysql://secret@h/d",
            "postgresql:///d",
            "postgresql://u:secret@h:x/d",
        ] {
            let fault = bad.parse::<DatabaseUrl>().unwrap_err();
            assert!(!fault.contains("secret"), "{fault}");
        }
        let url: DatabaseUrl = "postgresql://u:secret@h/d\n".parse().unwrap();
        assert_eq!(format!("{url:?}"), "[redacted]");
    }
}
