//! Records: keys, teams, users and tags as they are kept and shown.

use jiff::Timestamp;
use protocol::{
    allowance::{Allowance, Budget, Limit},
    key::{KEY_ENTROPY_BYTES, digest, format_key, hex},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Kind;

/// Characters of a name.
const NAME_CHARACTERS_MAX: usize = 128;
/// Entries of one list.
const ENTRIES_MAX: usize = 256;
/// Members of a team.
const MEMBERS_MAX: usize = 10_000;
/// Bytes of metadata, as JSON.
const METADATA_BYTES_MAX: usize = 16 << 10;
/// Characters of a key that are shown later.
const HINT_CHARACTERS: usize = 4;
/// The longest time that a key counts on after its rotation.
const GRACE_DAYS_MAX: i64 = 30;

/// What somebody says of a key, a team, a user or a tag.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Spec {
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alias: Option<String>,
    /// The team that a key belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) team: Option<String>,
    /// The user that a key belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// Tags of all requests of a key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    /// Routes that a key may use though they ask for other keys, as `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<String>,
    /// When a key ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// Who is in a team.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) members: Vec<Member>,
    /// Where a user is written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    /// What a user is; for people and their programs, the gateway gives it no meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    /// Models that may be used, names and patterns; all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<String>,
    /// What may be spent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) budgets: Vec<Budget>,
    /// Requests and tokens in a time, and requests at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<Limit>,
    /// Models that are asked for a key when the one that a request names gives no answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fallbacks: Vec<String>,
    /// Whether requests are refused.
    pub(crate) blocked: bool,
    /// Anything else, for people and their programs.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

/// Somebody in a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// The user's id.
    pub(crate) user: String,
    /// What the user is there; the gateway gives it no meaning.
    #[serde(default = "plain_role")]
    pub(crate) role: String,
}

fn plain_role() -> String {
    "user".to_owned()
}

/// A key, a team, a user or a tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What it is.
    pub(crate) kind: Kind,
    /// Which one of its kind.
    pub(crate) id: String,
    /// What was said of it.
    pub(crate) spec: Spec,
    /// How the holder of a key is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Secret>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was changed last.
    pub(crate) updated_at: Timestamp,
}

/// What is kept of a key's secret: nothing that anybody could use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret {
    /// The SHA-256, in hexadecimal digits.
    pub(crate) hash: String,
    /// The last characters, for people to tell keys apart.
    pub(crate) hint: String,
    /// The one before the last rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Previous>,
}

/// A secret that counts for a while after its rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    /// The SHA-256, in hexadecimal digits.
    pub(crate) hash: String,
    /// Until when it counts.
    pub(crate) until: Timestamp,
}

impl Secret {
    /// What is kept of a key.
    pub(crate) fn of(key: &str) -> Self {
        let characters = key.chars().count();
        // A short key has no end that could be shown.
        let shown = characters.saturating_sub(HINT_CHARACTERS.min(characters / 8));
        Self {
            hash: hex(&digest(key)),
            hint: key.chars().skip(shown).collect(),
            previous: None,
        }
    }

    /// What is kept of the key that comes after this one, which counts on until then.
    pub(crate) fn rotated(self, key: &str, until: Option<Timestamp>) -> Self {
        let hash = self.hash;
        Self {
            previous: until.map(|until| Previous { hash, until }),
            ..Self::of(key)
        }
    }
}

impl Record {
    /// A record that is made now.
    pub(crate) fn new(kind: Kind, id: String, spec: Spec, secret: Option<Secret>) -> Self {
        let now = Timestamp::now();
        Self {
            kind,
            id,
            spec,
            secret,
            created_at: now,
            updated_at: now,
        }
    }
}

impl Spec {
    /// What may be used and spent.
    pub(crate) fn allowance(&self) -> Allowance {
        Allowance {
            models: self.models.clone(),
            budgets: self.budgets.clone(),
            limits: self.limits.clone(),
            fallbacks: self.fallbacks.clone(),
        }
    }

    /// Checks what can be checked without knowing others.
    ///
    /// # Errors
    /// What is wrong, as a sentence that says what to do.
    pub(crate) fn check(&self, kind: Kind) -> Result<(), String> {
        let only = [
            (Kind::Key, "team", self.team.is_some()),
            (Kind::Key, "user", self.user.is_some()),
            (Kind::Key, "tags", !self.tags.is_empty()),
            (Kind::Key, "routes", !self.routes.is_empty()),
            (Kind::Key, "expires_at", self.expires_at.is_some()),
            (Kind::Team, "members", !self.members.is_empty()),
            (Kind::User, "email", self.email.is_some()),
            (Kind::User, "role", self.role.is_some()),
        ];
        for (owner, field, is_given) in only {
            if is_given && owner != kind {
                return Err(format!(
                    "`{field}` belongs to a {owner}, not to a {kind}. Leave it out."
                ));
            }
        }
        let names = [
            ("alias", &self.alias),
            ("email", &self.email),
            ("role", &self.role),
        ];
        for (field, name) in names {
            if let Some(name) = name {
                check_name(field, name)?;
            }
        }
        let lists = [
            ("tags", &self.tags),
            ("routes", &self.routes),
            ("models", &self.models),
            ("fallbacks", &self.fallbacks),
        ];
        for (field, list) in lists {
            check_count(field, list.len(), ENTRIES_MAX)?;
            list.iter().try_for_each(|name| check_name(field, name))?;
        }
        check_count("budgets", self.budgets.len(), ENTRIES_MAX)?;
        check_count("limits", self.limits.len(), ENTRIES_MAX)?;
        check_count("members", self.members.len(), MEMBERS_MAX)?;
        for Member { user, role } in &self.members {
            check_id("members", user)?;
            check_name("members", role)?;
        }
        let checked = self.allowance().check();
        checked.map_err(|reason| format!("Invalid models, budgets or limits: {reason}."))?;
        let metadata = serde_json::to_vec(&self.metadata).map_or(usize::MAX, |json| json.len());
        if METADATA_BYTES_MAX < metadata {
            return Err(format!(
                "`metadata` is larger than {METADATA_BYTES_MAX} bytes. Keep it elsewhere."
            ));
        }
        Ok(())
    }
}

fn check_count(field: &str, count: usize, most: usize) -> Result<(), String> {
    if count <= most {
        return Ok(());
    }
    Err(format!(
        "`{field}` has {count} entries; at most {most} are taken."
    ))
}

fn check_name(field: &str, name: &str) -> Result<(), String> {
    let is_fine = !name.trim().is_empty()
        && name.chars().count() <= NAME_CHARACTERS_MAX
        && !name.chars().any(char::is_control);
    if is_fine {
        return Ok(());
    }
    Err(format!(
        "A name in `{field}` is empty, longer than {NAME_CHARACTERS_MAX} characters, or has control characters."
    ))
}

/// Checks an id, which stands in URLs.
///
/// # Errors
/// What is wrong, as a sentence.
pub(crate) fn check_id(field: &str, id: &str) -> Result<(), String> {
    check_name(field, id)?;
    if id.contains('/') || id.contains(char::is_whitespace) {
        return Err(format!(
            "`{id}` in `{field}` has a slash or a space, which no id has."
        ));
    }
    Ok(())
}

/// Checks how long a key counts on after its rotation, and says until when.
///
/// # Errors
/// What is wrong, as a sentence.
pub(crate) fn check_grace(
    grace: protocol::allowance::Window,
    now: Timestamp,
) -> Result<Timestamp, String> {
    let longest = jiff::SignedDuration::from_hours(24 * GRACE_DAYS_MAX);
    let wanted = match grace {
        protocol::allowance::Window::Every(time) => jiff::SignedDuration::try_from(time).ok(),
        protocol::allowance::Window::Month => Some(longest),
    };
    wanted
        .filter(|wanted| *wanted <= longest)
        .and_then(|wanted| now.checked_add(wanted).ok())
        .ok_or_else(|| format!("`grace` is longer than {GRACE_DAYS_MAX} days."))
}

/// A key that nobody can guess.
pub(crate) fn fresh_key() -> String {
    format_key(rand::random::<[u8; KEY_ENTROPY_BYTES]>())
}

/// An id for what nobody gave one; ids sort by time.
pub(crate) fn fresh_id(kind: Kind) -> String {
    format!("{kind}_{}", Uuid::now_v7().simple())
}
