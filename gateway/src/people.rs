//! People: the keys, teams, users and tags that requests are counted for, declared or made at run time.
//!
//! Who is made at run time lies in SQLite in the data folder; a change is acknowledged when it is on disk, and counts
//! from then on. Of keys only SHA-256 hashes are kept. Requests look at memory alone.

mod changes;
mod edit;
pub(crate) mod exchange;
mod party;
mod record;
mod store;
mod terms;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use protocol::key::parse_hash;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    changes::Page,
    edit::Edit,
    party::{InvalidAllowance, Parties},
    record::{Member, Record, Secret, Spec, check_grace, check_id, fresh_id, fresh_key},
    store::{AuditRow, Filter},
    terms::{Key, Said, Terms},
};
use self::{edit::Digest, party::Party, store::Store};
use crate::{
    fault::Fault,
    jwt::{self, Issuer, Rejected, is_token},
    table::Lasting,
};

/// The file in the data folder.
const FILE: &str = "people.sqlite";

/// Who was made at run time.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// The keys, by their SHA-256.
    keys: RwLock<HashMap<Digest, Arc<Key>>>,
    /// Teams, users and tags, so that they are not forgotten while nobody names them.
    made: Mutex<HashMap<(Kind, String), Arc<Party>>>,
    /// What is on disk; `None` for a gateway that keeps nobody.
    store: Mutex<Option<Store>>,
    /// Where that lies; `None` in tests that keep nothing.
    path: Option<PathBuf>,
    /// How far the changes of other replicas are taken, and of which files.
    cursors: Mutex<HashMap<String, (String, i64)>>,
    lasting: Arc<Lasting>,
    /// Whose tokens are taken besides keys.
    pub(crate) issuer: Option<Arc<Issuer>>,
}

impl People {
    /// Those of a data folder. Without `creates`, a folder without a file keeps nobody.
    ///
    /// # Errors
    /// The file cannot be used, in words.
    pub(crate) fn open(
        data_dir: &Path,
        creates: bool,
        lasting: Arc<Lasting>,
    ) -> Result<Self, String> {
        let path = data_dir.join(FILE);
        let people = Self {
            lasting,
            path: Some(path.clone()),
            ..Self::default()
        };
        if !creates && !path.exists() {
            return Ok(people);
        }
        let mut store = Store::open(&path).map_err(|error| error.to_string())?;
        let read = |store: &mut Store| {
            let transaction = store.transaction()?;
            let all = Filter::default();
            let mut records = Vec::new();
            for kind in Kind::ALL {
                records.extend(store::list(&transaction, kind, &all, usize::MAX)?);
            }
            Ok(records)
        };
        let records =
            read(&mut store).map_err(|error: rusqlite::Error| format!("{FILE}: {error}"))?;
        people
            .learn_all(&records)
            .map_err(|fault| format!("{FILE}: {}", fault.message))?;
        *people.store.lock() = Some(store);
        Ok(people)
    }

    /// Opens the file if it is not; a replica keeps those whom another one has made.
    fn open_store(&self) -> Result<(), Fault> {
        let mut store = self.store.lock();
        if let (None, Some(path)) = (&*store, &self.path) {
            let opened = Store::open(path);
            *store = Some(opened.map_err(|error| edit::storage(&error))?);
        }
        Ok(())
    }

    /// These, and the holders of an issuer's tokens.
    pub(crate) fn trusting(mut self, issuer: Option<Issuer>) -> Self {
        self.issuer = issuer.map(Arc::new);
        self
    }

    /// The holder of a token of the issuer's; `None` if no tokens are taken, or this is none.
    pub(crate) fn token(
        &self,
        bearer: &str,
        digest: Digest,
        now: Timestamp,
    ) -> Option<Result<Arc<Key>, Rejected>> {
        let issuer = self.issuer.as_ref().filter(|_| is_token(bearer))?;
        Some(issuer.holder(bearer, digest, &self.lasting, now))
    }

    /// The holder of a token of the gateway's own issuer, or of one that a route trusts.
    pub(crate) fn token_of(
        &self,
        issuers: &[Arc<Issuer>],
        bearer: &str,
        digest: Digest,
        now: Timestamp,
    ) -> Option<Result<Arc<Key>, Rejected>> {
        match self.token(bearer, digest, now) {
            Some(Ok(key)) => Some(Ok(key)),
            own => jwt::holder(issuers, bearer, digest, &self.lasting, now).or(own),
        }
    }

    /// All keys that were made at run time.
    pub(crate) fn keys(&self) -> Vec<Arc<Key>> {
        self.keys.read().values().cloned().collect()
    }

    /// The key with this id, looked for among all.
    pub(crate) fn key_of(&self, id: &str) -> Option<Arc<Key>> {
        let keys = self.keys.read();
        keys.values().find(|key| key.id == id).cloned()
    }

    /// The key with this SHA-256.
    pub(crate) fn key(&self, digest: &Digest) -> Option<Arc<Key>> {
        self.keys.read().get(digest).cloned()
    }
}

/// The SHA-256 that hexadecimal digits tell.
fn parse_digest(digits: &str) -> Option<Digest> {
    parse_hash(&format!("sha256:{digits}"))
}

/// What somebody accountable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A key.
    Key,
    /// A team, which keys belong to.
    Team,
    /// A user, whom keys belong to.
    User,
    /// A tag of keys or requests.
    Tag,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 4] = [Self::Key, Self::Team, Self::User, Self::Tag];

    /// The word for one.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Team => "team",
            Self::User => "user",
            Self::Tag => "tag",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
