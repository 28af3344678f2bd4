//! Lists of what all servers have: gathered from each, filtered, renamed, and shown a page at a time. A server that does not
//! answer is left out.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};
use serde_json::value::RawValue;

use super::{
    Context,
    directory::Seat,
    failure::{self, Failure, INVALID_PARAMS, METHOD_NOT_FOUND},
    link::{Ask, Link},
    message::{Object, quoted},
    relay::explain,
    search,
    session::Session,
};

/// Servers that are asked at once.
const SERVERS_AT_ONCE: usize = 16;
/// Pages that are read of one server.
const PAGES_MAX: usize = 200;
/// Entries that are read of one server.
const ENTRIES_MAX: usize = 10_000;
/// Bytes that are read of one server.
const BYTES_MAX: usize = 16 << 20;
/// Entries that a client gets at once.
const PAGE: usize = 1000;

/// A kind of list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tools.
    Tools,
    /// Prompts.
    Prompts,
    /// Resources.
    Resources,
    /// Templates of resources' URIs.
    Templates,
}

impl Kind {
    /// The list that a method asks for.
    pub(super) fn of(method: &str) -> Option<Self> {
        match method {
            "tools/list" => Some(Self::Tools),
            "prompts/list" => Some(Self::Prompts),
            "resources/list" => Some(Self::Resources),
            "resources/templates/list" => Some(Self::Templates),
            _ => None,
        }
    }

    const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The field with the entries.
    const fn field(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// What a server says that it can if it has such a list.
    const fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// The field by which an entry is known, and what stands between the server's name and its own.
    const fn name(self) -> (&'static str, char) {
        match self {
            Self::Tools | Self::Prompts => ("name", '_'),
            Self::Resources => ("uri", '+'),
            Self::Templates => ("uriTemplate", '+'),
        }
    }
}

/// The text of a list of what all servers have.
///
/// # Errors
/// The text of an error: the cursor is not one of ours, or no server answered.
pub(super) async fn list(
    context: &Context,
    session: &Arc<Session>,
    kind: Kind,
    params: Option<&str>,
) -> Result<String, String> {
    let start = start(params)?;
    let is_listed = |seat: &&Seat| kind != Kind::Tools || !search::is_hidden(seat);
    let listed = context.seats.iter().filter(is_listed).collect();
    let own = match kind {
        Kind::Tools => search::definitions(context),
        Kind::Prompts | Kind::Resources | Kind::Templates => Vec::new(),
    };
    let gathered = match gather_all(context, session, listed, kind).await {
        Err(error) if own.is_empty() => return Err(error),
        gathered => gathered.unwrap_or_default(),
    };
    let mut entries = own.into_iter().chain(gathered).skip(start);
    let page: Vec<String> = entries.by_ref().take(PAGE).collect();
    let mut result = format!(r#"{{"{}":[{}]"#, kind.field(), page.join(","));
    if entries.next().is_some() {
        let next = quoted(&(start + PAGE).to_string());
        result.push_str(&format!(r#","nextCursor":{next}"#));
    }
    if session.client.revision.is_stateless() {
        // The servers tell of changes; what this key sees is not what others see.
        result.push_str(r#","resultType":"complete","ttlMs":0,"cacheScope":"private""#);
    }
    result.push('}');
    Ok(result)
}

/// The entries of these servers that the caller may use, by the names that clients see.
///
/// # Errors
/// The text of an error: no server answered.
pub(super) async fn gather_all(
    context: &Context,
    session: &Arc<Session>,
    seats: Vec<&Seat>,
    kind: Kind,
) -> Result<Vec<String>, String> {
    // In boxes, since the compiler cannot see that closures over borrowed seats may be sent.
    let asked = seats.into_iter();
    let asked: Vec<_> = asked
        .map(|seat| of_one(context, session, seat, kind).boxed())
        .collect();
    let gathered: Vec<_> = stream::iter(asked)
        .buffered(SERVERS_AT_ONCE)
        .collect()
        .await;
    if gathered.iter().all(Result::is_err)
        && let Some(Err(error)) = gathered.first()
    {
        return Err(error.clone());
    }
    Ok(gathered.into_iter().flatten().flatten().collect())
}

/// Where the page begins that the client asks for.
fn start(params: Option<&str>) -> Result<usize, String> {
    let Some(params) = params else { return Ok(0) };
    let invalid = || failure::error(INVALID_PARAMS, "The cursor is not one of this list.");
    let params = Object::parse(params).map_err(|_| invalid())?;
    let Some(cursor) = params.get("cursor").filter(|cursor| *cursor != "null") else {
        return Ok(0);
    };
    let cursor = super::message::unquoted(cursor).and_then(|cursor| cursor.parse().ok());
    cursor
        .filter(|start| *start <= ENTRIES_MAX * super::LISTENERS_MAX)
        .ok_or_else(invalid)
}

/// The entries of one server that the caller may use; the error's text if it does not answer.
async fn of_one(
    context: &Context,
    session: &Arc<Session>,
    seat: &Seat,
    kind: Kind,
) -> Result<Vec<String>, String> {
    let link = session.link(&seat.server);
    let raw = gather(context, &link, kind).await;
    let raw = raw.map_err(|failure| explain(&context.hub, &link, &failure))?;
    let (name, between) = kind.name();
    let shown = raw.iter().filter_map(|entry| {
        let entry = Object::parse(entry).ok()?;
        let own = entry.string(name)?;
        if kind == Kind::Tools && !seat.server.may_use(&context.caller, &own) {
            return None;
        }
        let full = format!("{}{between}{own}", seat.prefix);
        Some(entry.with(name, &quoted(&full)))
    });
    Ok(shown.collect())
}

/// All pages of one server.
async fn gather(context: &Context, link: &Link, kind: Kind) -> Result<Vec<String>, Failure> {
    if !link.open(&context.hub).await?.can(kind.capability()) {
        return Ok(Vec::new());
    }
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let ask = Ask {
            method: kind.method().to_owned(),
            params: cursor.map(|cursor| format!(r#"{{"cursor":{cursor}}}"#)),
            ..Ask::default()
        };
        let id = link.fresh_id();
        let answer = link.ask(&context.hub, &id, &ask).await?;
        let result = match answer.response(&id).await?.outcome {
            Ok(result) => result,
            Err(error) if code(&error) == Some(METHOD_NOT_FOUND) => return Ok(Vec::new()),
            Err(error) => return Err(Failure::Refused(error)),
        };
        bytes += result.len();
        let garbage = Failure::Garbage("a list that is none");
        let object = Object::parse(&result).map_err(|_| garbage.clone())?;
        let list = object.get(kind.field()).ok_or_else(|| garbage.clone())?;
        let list: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| garbage)?;
        entries.extend(list.into_iter().map(|entry| entry.get().to_owned()));
        if ENTRIES_MAX < entries.len() || BYTES_MAX < bytes {
            return Err(Failure::TooLong);
        }
        cursor = object
            .get("nextCursor")
            .filter(|cursor| cursor.starts_with('"'))
            .map(str::to_owned);
        if cursor.is_none() {
            return Ok(entries);
        }
    }
    Err(Failure::TooLong)
}

fn code(error: &str) -> Option<i64> {
    Object::parse(error).ok()?.get("code")?.parse().ok()
}
