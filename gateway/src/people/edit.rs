//! Edits: changes of keys, teams, users and tags, all or none of which come to be.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::MutexGuard;
use protocol::openai::ErrorKind;
use rusqlite::Transaction;
use serde_json::Value;
use tracing::error;

use super::{
    Filter, Key, Kind, People, Record, Said, Spec, Terms,
    party::Standing,
    store::{self, AuditRow, Store},
};
use crate::fault::Fault;

/// The SHA-256 of a key.
pub(super) type Digest = [u8; 32];

/// A look at what is kept, and changes of it that are not yet.
pub(crate) struct Edit<'a> {
    people: &'a People,
    pub(super) transaction: Transaction<'a>,
    actor: &'a str,
    staged: Vec<Staged>,
}

/// What memory learns once a change is on disk.
pub(super) enum Staged {
    Key {
        before: Vec<Digest>,
        after: Vec<(Digest, Arc<Key>)>,
    },
    Party {
        kind: Kind,
        id: String,
        standing: Option<Standing>,
    },
}

impl People {
    /// Looks at what is kept and changes it; blocks. What the work changes is on disk and in use when this returns.
    ///
    /// # Errors
    /// The work's, or the disk does not take it; nothing is changed then.
    pub(crate) fn edit<T>(
        &self,
        actor: &str,
        work: impl FnOnce(&mut Edit<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut guard: MutexGuard<'_, Option<Store>> = self.store.lock();
        let store = guard.as_mut().ok_or_else(|| {
            Fault::new(
                ErrorKind::NotFound,
                "This gateway keeps no keys of its own. Start it with --admin-key-file.",
            )
        })?;
        let mut edit = Edit {
            people: self,
            transaction: store.transaction().map_err(|error| storage(&error))?,
            actor,
            staged: Vec::new(),
        };
        let done = work(&mut edit)?;
        let Edit {
            transaction,
            staged,
            ..
        } = edit;
        transaction.commit().map_err(|error| storage(&error))?;
        for change in staged {
            self.learn(change);
        }
        Ok(done)
    }

    fn learn(&self, change: Staged) {
        match change {
            Staged::Key { before, after } => {
                let mut keys = self.keys.write();
                for digest in before {
                    keys.remove(&digest);
                }
                keys.extend(after);
            }
            Staged::Party { kind, id, standing } => {
                let party = self.lasting.parties.get(kind, &id);
                let is_kept = standing.is_some();
                party.stand(standing.unwrap_or_default());
                let mut made = self.made.lock();
                match is_kept {
                    true => made.insert((kind, id), party),
                    false => made.remove(&(kind, id)),
                };
            }
        }
    }

    /// What a record comes to.
    fn compile(&self, record: &Record) -> Result<Staged, Fault> {
        let invalid = |reason: super::InvalidAllowance| {
            Fault::new(ErrorKind::InvalidRequest, format!("Invalid {reason}."))
        };
        let Spec {
            team,
            user,
            tags,
            routes,
            expires_at,
            blocked,
            ..
        } = &record.spec;
        let allowance = record.spec.allowance();
        let Some(secret) = &record.secret else {
            let meters = &self.lasting.meters;
            let standing = Standing::compile(record.kind, &record.id, &allowance, meters);
            let mut standing = standing.map_err(invalid)?;
            standing.is_blocked = *blocked;
            return Ok(Staged::Party {
                kind: record.kind,
                id: record.id.clone(),
                standing: Some(standing),
            });
        };
        let said = Said {
            id: &record.id,
            team: team.as_deref(),
            user: user.as_deref(),
            tags,
            routes,
            allowance: &allowance,
            is_blocked: *blocked,
        };
        let now = Timestamp::now();
        let previous = secret.previous.as_ref().filter(|old| now < old.until);
        let hashes = [
            Some((&secret.hash, *expires_at)),
            previous.map(|old| {
                let ends = expires_at.map_or(old.until, |expires| expires.min(old.until));
                (&old.hash, Some(ends))
            }),
        ];
        let mut after = Vec::new();
        for (hash, expires) in hashes.into_iter().flatten() {
            let Some(digest) = super::parse_digest(hash) else {
                continue;
            };
            let terms = Terms::compile(said, &self.lasting.parties, &self.lasting.meters);
            let key = Key {
                id: record.id.clone(),
                expires,
                terms: Some(Box::new(terms.map_err(invalid)?)),
                signed: None,
            };
            after.push((digest, Arc::new(key)));
        }
        Ok(Staged::Key {
            before: Vec::new(),
            after,
        })
    }

    /// Takes what is kept into memory, at the start.
    pub(super) fn learn_all(&self, records: &[Record]) -> Result<(), Fault> {
        for record in records {
            self.learn(self.compile(record)?);
        }
        Ok(())
    }
}

impl Staged {
    /// A record that is there no more.
    pub(super) fn gone(kind: Kind, id: &str) -> Self {
        match kind {
            Kind::Key => Self::Key {
                before: Vec::new(),
                after: Vec::new(),
            },
            Kind::Team | Kind::User | Kind::Tag => Self::Party {
                kind,
                id: id.to_owned(),
                standing: None,
            },
        }
    }
}

impl Edit<'_> {
    /// What a record comes to.
    pub(super) fn compile(&self, record: &Record) -> Result<Staged, Fault> {
        self.people.compile(record)
    }

    /// Lets memory learn something once all is on disk.
    pub(super) fn stage(&mut self, change: Staged) {
        self.staged.push(change);
    }

    /// A record, if there is one of this id.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn find(&self, kind: Kind, id: &str) -> Result<Option<Record>, Fault> {
        store::get(&self.transaction, kind, id).map_err(|error| storage(&error))
    }

    /// The record of this id.
    ///
    /// # Errors
    /// There is none, or the disk's.
    pub(crate) fn get(&self, kind: Kind, id: &str) -> Result<Record, Fault> {
        self.find(kind, id)?.ok_or_else(|| {
            let shown: String = id.chars().take(200).collect();
            Fault::new(
                ErrorKind::NotFound,
                format!("There is no {kind} `{shown}`."),
            )
        })
    }

    /// Records of a kind, by id, at most so many.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn list(
        &self,
        kind: Kind,
        filter: &Filter,
        most: usize,
    ) -> Result<Vec<Record>, Fault> {
        store::list(&self.transaction, kind, filter, most).map_err(|error| storage(&error))
    }

    /// The latest changes, before this number if one is given.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn audit(&self, before: Option<i64>, most: usize) -> Result<Vec<AuditRow>, Fault> {
        store::audit(&self.transaction, before, most).map_err(|error| storage(&error))
    }

    /// Keeps a record, new or changed.
    ///
    /// # Errors
    /// What was said cannot be, names others who are not there, or the disk's.
    pub(crate) fn put(
        &mut self,
        mut record: Record,
        action: &str,
        changed: &Value,
    ) -> Result<Record, Fault> {
        let kind = record.kind;
        let invalid = |message: String| Fault::new(ErrorKind::InvalidRequest, message);
        record.spec.check(kind).map_err(invalid)?;
        let named = [
            (Kind::Team, &record.spec.team),
            (Kind::User, &record.spec.user),
        ];
        for (named, id) in named {
            if let Some(id) = id
                && self.find(named, id)?.is_none()
            {
                let message = format!(
                    "There is no {named} `{id}`. Make it first, with POST /admin/v1/{named}s."
                );
                return Err(invalid(message));
            }
        }
        let changed_at = self.next_change(kind, &record.id)?;
        record.updated_at = Timestamp::from_microsecond(changed_at).unwrap_or(record.updated_at);
        let before = self.find(kind, &record.id)?;
        let mut change = self.people.compile(&record)?;
        if let (
            Staged::Key {
                before: digests, ..
            },
            Some(old),
        ) = (&mut change, &before)
        {
            *digests = digests_of(old);
        }
        store::put(&self.transaction, &record).map_err(|error| {
            match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => invalid(format!(
                    "Another {kind} has this alias or this secret. Choose another one."
                )),
                _ => storage(&error),
            }
        })?;
        store::note_change(&self.transaction, kind, &record.id, changed_at)
            .map_err(|error| storage(&error))?;
        self.note(action, kind, &record.id, changed)?;
        self.staged.push(change);
        Ok(record)
    }

    /// Forgets a record.
    ///
    /// # Errors
    /// Keys belong to it, or the disk's.
    pub(crate) fn delete(&mut self, record: &Record) -> Result<(), Fault> {
        let (kind, id) = (record.kind, record.id.as_str());
        let owned = match kind {
            Kind::Team => Some(Filter {
                team: Some(id.to_owned()),
                ..Filter::default()
            }),
            Kind::User => Some(Filter {
                user: Some(id.to_owned()),
                ..Filter::default()
            }),
            Kind::Key | Kind::Tag => None,
        };
        if let Some(owned) = owned
            && let Some(key) = self.list(Kind::Key, &owned, 1)?.first()
        {
            let message = format!(
                "Keys belong to the {kind} `{id}`, as `{}`. Delete them first, or change their `{kind}`.",
                key.id
            );
            return Err(Fault::new(ErrorKind::InvalidRequest, message));
        }
        let changed_at = self.next_change(kind, id)?;
        store::delete(&self.transaction, kind, id).map_err(|error| storage(&error))?;
        store::note_change(&self.transaction, kind, id, changed_at)
            .map_err(|error| storage(&error))?;
        self.note("delete", kind, id, &Value::Null)?;
        let mut gone = Staged::gone(kind, id);
        if let Staged::Key { before, .. } = &mut gone {
            *before = digests_of(record);
        }
        self.staged.push(gone);
        Ok(())
    }

    /// The time of a change of this record, in microseconds since 1970: later than that of the one before, whatever the
    /// clock says.
    fn next_change(&self, kind: Kind, id: &str) -> Result<i64, Fault> {
        let last = store::changed_at(&self.transaction, kind, id);
        let last = last.map_err(|error| storage(&error))?;
        let now = Timestamp::now().as_microsecond();
        Ok(last.map_or(now, |last| now.max(last.saturating_add(1))))
    }

    fn note(&self, action: &str, kind: Kind, id: &str, changed: &Value) -> Result<(), Fault> {
        let subject = (kind, id);
        store::note(&self.transaction, self.actor, action, subject, changed)
            .map_err(|error| storage(&error))
    }
}

pub(super) fn digests_of(record: &Record) -> Vec<Digest> {
    let secret = record.secret.as_ref();
    let previous = secret.and_then(|secret| secret.previous.as_ref());
    let hashes = secret.map(|secret| &secret.hash).into_iter();
    let hashes = hashes.chain(previous.map(|previous| &previous.hash));
    hashes
        .filter_map(|hash| super::parse_digest(hash))
        .collect()
}

pub(super) fn storage(error: &rusqlite::Error) -> Fault {
    error!(%error, "keys and teams cannot be read or written");
    Fault::new(
        ErrorKind::Unavailable,
        "Keys and teams cannot be read or written now. Try again later.",
    )
}
