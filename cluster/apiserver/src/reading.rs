//! Get and list: one object, or a consistent page of many, in the shape that was asked for.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::call::Call;
use crate::negotiate::{Format, Shape, negotiate};
use crate::present;
use crate::response::{Body, json_bytes, large_json, object};
use crate::selection::Selection;
use crate::status::{ApiError, Cause, quoted};
use crate::store::{Entry, Snapshot};

/// One object.
pub(crate) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let (shape, format) = negotiate(call.headers())?;
    if let Some(version) = call.query.get("resourceVersion") {
        check_not_future(call, revision(version)?)?;
    }
    let entry = call
        .api
        .store
        .get(&call.resource.shelf, &call.key())
        .ok_or_else(|| call.not_found())?;
    if shape == Shape::Whole && format == Format::Json {
        return Ok(json_bytes(
            StatusCode::OK,
            present::bytes(&call.resource, &entry),
        ));
    }
    let value = present::value(&call.resource, &entry);
    Ok(object(
        StatusCode::OK,
        &present::shaped(call, value, shape),
        format,
    ))
}

/// A collection.
pub(crate) fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let (shape, format) = negotiate(call.headers())?;
    let page = page(call)?;
    if shape == Shape::Whole && format == Format::Json {
        return Ok(large_json(call.headers(), whole(call, &page)));
    }
    let items: Vec<Value> = page
        .entries
        .iter()
        .map(|entry| present::value(&call.resource, entry))
        .collect();
    let metadata = page.metadata(false);
    let list = match shape {
        Shape::Whole => json!({
            "kind": call.resource.list_kind, "apiVersion": call.resource.api_version(),
            "metadata": metadata, "items": items,
        }),
        Shape::Table => present::table(call, &items, metadata),
        Shape::Partial => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "items": items.iter().map(present::partial).collect::<Vec<_>>(),
        }),
    };
    if format == Format::Json {
        return Ok(large_json(call.headers(), list.to_string().into_bytes()));
    }
    Ok(object(StatusCode::OK, &list, format))
}

/// The stored bytes side by side: a list costs no serialisation.
fn whole(call: &Call, page: &Page) -> Vec<u8> {
    let size: usize = page.entries.iter().map(|entry| entry.bytes.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    let head = json!({
        "kind": call.resource.list_kind,
        "apiVersion": call.resource.api_version(),
        "metadata": page.metadata(call.resource.custom().is_some()),
    });
    let head = head.to_string();
    out.extend_from_slice(head.trim_end_matches('}').as_bytes());
    // The object and its metadata both ended with a brace; only the object's stays open.
    out.extend_from_slice(b"},\"items\":[");
    for (index, entry) in page.entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&present::bytes(&call.resource, entry));
    }
    out.extend_from_slice(b"]}");
    out
}

/// A part of a collection at one revision.
pub(crate) struct Page {
    pub(crate) revision: u64,
    pub(crate) entries: Vec<Arc<Entry>>,
    next: Option<String>,
    remaining: Option<usize>,
}

impl Page {
    fn metadata(&self, always_continue: bool) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if always_continue {
            metadata["continue"] = json!("");
        }
        if let Some(next) = &self.next {
            metadata["continue"] = json!(next);
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        metadata
    }
}

/// The page that a list request asks for.
pub(crate) fn page(call: &Call) -> Result<Page, ApiError> {
    let selection = Selection::of(call)?;
    let limit = limit(call)?;
    check_options(call)?;
    let resumed = call.query.get("continue").map(Token::decode).transpose()?;
    let snapshot = snapshot(call, resumed.as_ref())?;
    let after = resumed
        .as_ref()
        .map(|token| token.start.trim_start_matches('/'));
    let mut page = Page {
        revision: snapshot.revision,
        entries: Vec::new(),
        next: None,
        remaining: None,
    };
    let mut last = None;
    let mut candidates = selection
        .range(&snapshot, after)
        .filter(|(key, entry)| selection.selects(key, entry));
    for (key, entry) in candidates.by_ref() {
        page.entries.push(Arc::clone(entry));
        last = Some(key);
        if limit.is_some_and(|limit| page.entries.len() >= limit) {
            break;
        }
    }
    let remaining = limit.map_or(0, |_| candidates.count());
    if let Some(last) = last.filter(|_| remaining > 0) {
        let start = last
            .strip_prefix(selection.prefix().as_str())
            .unwrap_or(last);
        page.next = Some(
            Token {
                revision: snapshot.revision,
                start: format!("/{start}\0"),
            }
            .encode(),
        );
        page.remaining = (!selection.has_selectors()).then_some(remaining);
    }
    Ok(page)
}

fn snapshot(call: &Call, resumed: Option<&Token>) -> Result<Snapshot, ApiError> {
    let store = &call.api.store;
    let shelf = &call.resource.shelf;
    if let Some(token) = resumed {
        return store.snapshot_at(shelf, token.revision).ok_or_else(|| {
            ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
            )
        });
    }
    let Some(version) = call.query.get("resourceVersion") else {
        return Ok(store.snapshot(shelf));
    };
    let asked = revision(version)?;
    check_not_future(call, asked)?;
    if call.query.get("resourceVersionMatch") == Some("Exact") {
        return store.snapshot_at(shelf, asked).ok_or_else(|| {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        });
    }
    Ok(store.snapshot(shelf))
}

fn check_not_future(call: &Call, asked: u64) -> Result<(), ApiError> {
    let current = call.api.store.revision();
    if asked > current {
        return Err(ApiError::too_large_resource_version(asked, current));
    }
    Ok(())
}

fn limit(call: &Call) -> Result<Option<usize>, ApiError> {
    let Some(text) = call.query.get("limit") else {
        return Ok(None);
    };
    let limit: i64 = text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {}: invalid syntax",
            quoted(text)
        ))
    })?;
    Ok(usize::try_from(limit).ok().filter(|limit| *limit > 0))
}

/// A resource version from a query.
pub(crate) fn revision(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        let text = quoted(text);
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text}: strconv.ParseUint: parsing {text}: invalid syntax"
        ))
    })
}

/// 422 for options that do not go together.
pub(crate) fn check_options(call: &Call) -> Result<(), ApiError> {
    let query = &call.query;
    let refuse = |cause| {
        Err(ApiError::invalid(
            "meta.k8s.io",
            "ListOptions",
            "",
            vec![cause],
        ))
    };
    let watching = call.target.verb == crate::request::Verb::Watch;
    let matching = query.get("resourceVersionMatch");
    let initial = query.get("sendInitialEvents").is_some();
    if initial && !watching {
        return refuse(Cause::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    if initial && matching != Some("NotOlderThan") {
        let cause = Cause::forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
        return refuse(cause);
    }
    let Some(matching) = matching else {
        if query.get("continue").is_some()
            && query
                .get("resourceVersion")
                .is_some_and(|version| version != "0")
        {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(());
    };
    if initial {
        return Ok(());
    }
    let why = if watching {
        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    } else if query.get("resourceVersion").is_none() {
        "resourceVersionMatch is forbidden unless resourceVersion is provided"
    } else if query.get("continue").is_some() {
        "resourceVersionMatch is forbidden when continue is provided"
    } else if matching == "Exact" && query.get("resourceVersion") == Some("0") {
        "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""
    } else if matches!(matching, "Exact" | "NotOlderThan") {
        return Ok(());
    } else {
        let supported = ["Exact", "NotOlderThan", ""].map(str::to_owned);
        return refuse(Cause::not_supported(
            "resourceVersionMatch",
            &json!(matching),
            &supported,
        ));
    };
    refuse(Cause::forbidden("resourceVersionMatch", why))
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    revision: u64,
    start: String,
}

impl Token {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(
            json!({"v": "meta.k8s.io/v1", "rv": self.revision, "start": self.start}).to_string(),
        )
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let refuse = |why: String| {
            ApiError::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        // "zzz" is valid base64 for some decoders: trailing bits are not ours to judge.
        let lenient = base64::engine::GeneralPurpose::new(
            &base64::alphabet::URL_SAFE,
            base64::engine::GeneralPurposeConfig::new()
                .with_decode_allow_trailing_bits(true)
                .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
        );
        let bytes = lenient
            .decode(text)
            .map_err(|_| refuse("illegal base64 data at input byte 0".to_owned()))?;
        let parsed: Value = serde_json::from_slice(&bytes).map_err(|_| {
            let first = bytes.first().copied().unwrap_or_default();
            let shown = if first.is_ascii_graphic() {
                char::from(first).to_string()
            } else {
                format!("\\x{first:02x}")
            };
            refuse(format!(
                "invalid character '{shown}' looking for beginning of value"
            ))
        })?;
        let revision = parsed["rv"].as_u64().filter(|revision| *revision > 0);
        match (parsed["v"].as_str(), revision, parsed["start"].as_str()) {
            (Some("meta.k8s.io/v1"), Some(revision), Some(start)) if !start.is_empty() => {
                Ok(Self {
                    revision,
                    start: start.to_owned(),
                })
            }
            _ => Err(refuse(
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens_are_those_of_the_real_server() {
        let token = Token {
            revision: 13861,
            start: "/a\0".to_owned(),
        };
        assert_eq!(
            token.encode(),
            "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTM4NjEsInN0YXJ0IjoiL2FcdTAwMDAifQ"
        );
        assert_eq!(Token::decode(&token.encode()).ok(), Some(token));
        let refused = Token::decode("zzz").unwrap_err();
        assert!(
            refused
                .message
                .contains("invalid character '\\xcf' looking"),
            "{}",
            refused.message
        );
    }
}
