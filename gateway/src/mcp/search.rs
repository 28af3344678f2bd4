//! Search: two tools in the place of many. One finds tools by words, the other calls what was found.
//!
//! A call by the second is a call of the tool itself: the same checks, limits and rows. Tools that are found this way can
//! still be called by their names, and tools of other routes are listed beside the two.

mod ranking;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use self::ranking::Ranking;
use super::{
    Context,
    directory::Seat,
    lists::{self, Kind},
    message::{Object, quoted},
    session::Session,
};

/// The tool that finds tools.
const SEARCH: &str = "search_tools";
/// The tool that calls them.
const CALL: &str = "call_tool";
/// Tools that are found where the client does not say how many.
const FOUND: usize = 8;
/// Tools that are found at most.
const FOUND_MAX: usize = 32;
/// Bytes of definitions that are answered.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Bytes of a query.
const QUERY_BYTES_MAX: usize = 4096;

/// What is to be done with a request.
#[derive(Debug)]
pub(super) enum Taken {
    /// It goes on with these parameters.
    Passed(Option<String>),
    /// It is answered with this result.
    Answered(String),
    /// It fails with this error.
    Failed(String),
}

/// What a search asks for.
#[derive(Debug, Deserialize)]
struct Wish {
    query: String,
    #[serde(default)]
    limit: Option<usize>,
}

/// What a call asks for.
#[derive(Debug, Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    arguments: Option<Box<RawValue>>,
}

/// Whether tools of a server are found, not listed.
pub(super) fn is_hidden(seat: &Seat) -> bool {
    seat.route.mcp.as_ref().is_some_and(|mcp| mcp.is_searched)
}

/// The definitions of the two tools, if the caller may use servers whose tools are found.
pub(super) fn definitions(context: &Context) -> Vec<String> {
    if !context.seats.iter().any(is_hidden) {
        return Vec::new();
    }
    let search = json!({
        "name": SEARCH,
        "title": "Search tools",
        "description": "Finds tools by what they do. Say it in a few words; the answer holds the definitions of the tools that fit best. Call them with call_tool.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What the tool should do, in a few words"},
                "limit": {"type": "integer", "minimum": 1, "maximum": FOUND_MAX, "default": FOUND, "description": "How many tools to find at most"},
            },
            "required": ["query"],
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "tools": {"type": "array", "items": {"type": "object"}, "description": "Definitions of tools, the best first"},
                "fitting": {"type": "integer", "description": "How many tools fit at all"},
            },
            "required": ["tools", "fitting"],
        },
        "annotations": {"readOnlyHint": true},
    });
    let call = json!({
        "name": CALL,
        "title": "Call a tool",
        "description": "Calls a tool that search_tools has found, by its name.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "The tool's name, as search_tools tells it"},
                "arguments": {"type": "object", "description": "The tool's arguments, as its inputSchema wants them"},
            },
            "required": ["name"],
        },
    });
    vec![search.to_string(), call.to_string()]
}

/// Takes a call of one of the two tools; everything else passes as it is.
pub(super) async fn take(
    context: &Context,
    session: &Arc<Session>,
    method: &str,
    params: Option<&str>,
) -> Taken {
    let passed = || Taken::Passed(params.map(str::to_owned));
    if method != "tools/call" || !context.seats.iter().any(is_hidden) {
        return passed();
    }
    let Some(parsed) = params.and_then(|params| Object::parse(params).ok()) else {
        return passed();
    };
    let arguments = parsed.get("arguments").unwrap_or("{}");
    match parsed.string("name").as_deref() {
        Some(SEARCH) => found(context, session, arguments).await,
        Some(CALL) => call(session, &parsed, arguments),
        _ => passed(),
    }
}

/// The call of the tool that is meant.
fn call(session: &Session, params: &Object<'_>, arguments: &str) -> Taken {
    let Ok(Wanted { name, arguments }) = serde_json::from_str::<Wanted>(arguments) else {
        return refused(session, "Give the tool's name in `name`, a text.");
    };
    let arguments = arguments.as_ref().map_or("{}", |arguments| arguments.get());
    if !arguments.trim_ascii_start().starts_with('{') {
        return refused(
            session,
            "Give the tool's arguments in `arguments`, an object.",
        );
    }
    let named = params.with("name", &quoted(&name));
    let params = Object::parse(&named).map(|params| params.with("arguments", arguments));
    // An edit of an object is one.
    Taken::Passed(Some(params.unwrap_or_default()))
}

/// The tools that fit.
async fn found(context: &Context, session: &Arc<Session>, arguments: &str) -> Taken {
    let wish = serde_json::from_str::<Wish>(arguments);
    let wish = wish.ok().filter(|wish| wish.query.len() <= QUERY_BYTES_MAX);
    let Some(Wish { query, limit }) = wish else {
        return refused(
            session,
            "Give what the tool should do in `query`, a short text.",
        );
    };
    let seats: Vec<&Seat> = context
        .seats
        .iter()
        .filter(|seat| is_hidden(seat))
        .collect();
    let entries = match lists::gather_all(context, session, seats, Kind::Tools).await {
        Ok(entries) => entries,
        Err(error) => return Taken::Failed(error),
    };
    let tools: Vec<Value> = entries
        .iter()
        .map(|entry| serde_json::from_str(entry).unwrap_or_default())
        .collect();
    let best = Ranking::of(&tools).best(&query);
    let limit = limit.unwrap_or(FOUND).clamp(1, FOUND_MAX);
    let mut left = ANSWER_BYTES_MAX;
    let fitting = best.len();
    let shown = best
        .into_iter()
        .take(limit)
        .filter_map(|place| entries.get(place));
    let shown = shown.take_while(|entry| {
        let fits = entry.len() <= left;
        left = left.saturating_sub(entry.len());
        fits
    });
    let shown: Vec<&str> = shown.map(String::as_str).collect();
    let structured = format!(r#"{{"tools":[{}],"fitting":{fitting}}}"#, shown.join(","));
    let text = quoted(&structured);
    let result = format!(
        r#"{{"content":[{{"type":"text","text":{text}}}],"structuredContent":{structured}}}"#
    );
    Taken::Answered(complete(session, result))
}

/// An answer that tells a model what it has done wrong.
fn refused(session: &Session, message: &str) -> Taken {
    let text = quoted(message);
    let result = format!(r#"{{"content":[{{"type":"text","text":{text}}}],"isError":true}}"#);
    Taken::Answered(complete(session, result))
}

/// A result by the client's revision.
fn complete(session: &Session, result: String) -> String {
    if !session.client.revision.is_stateless() {
        return result;
    }
    let object = Object::parse(&result).map(|object| object.with("resultType", "\"complete\""));
    object.unwrap_or_default()
}
