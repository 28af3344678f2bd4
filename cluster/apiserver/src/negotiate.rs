//! What the client can read: the shape and format that its Accept header asks for.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::status::ApiError;

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

/// Which view of an object or a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Whole,
    /// Rows of a table.
    Table,
    /// Metadata only.
    Partial,
}

/// What we can answer with, as the real server lists it.
const ACCEPTED: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// The first thing in the Accept header that we can write.
///
/// # Errors
/// 406 when there is none.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<(Shape, Format), ApiError> {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("*/*");
    if accept.trim().is_empty() {
        return Ok((Shape::Whole, Format::Json));
    }
    accept
        .split(',')
        .find_map(choose)
        .ok_or_else(|| ApiError::not_acceptable(ACCEPTED))
}

fn choose(range: &str) -> Option<(Shape, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" | "text/yaml" | "application/x-yaml" => Format::Yaml,
        _ => return None,
    };
    let (mut kind, mut version, mut group) = (None, None, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name {
            "as" => kind = Some(value),
            "v" => version = Some(value),
            "g" => group = Some(value),
            _ => {}
        }
    }
    match (kind, group, version) {
        (None, _, _) => Some((Shape::Whole, format)),
        (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some((Shape::Table, format)),
        (
            Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
            Some("meta.k8s.io"),
            Some("v1"),
        ) => Some((Shape::Partial, format)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, expected: Option<(Shape, Format)>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        assert_eq!(negotiate(&headers).ok(), expected, "{accept}");
    }

    #[test]
    fn the_first_readable_type_wins() {
        check("application/json", Some((Shape::Whole, Format::Json)));
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            Some((Shape::Whole, Format::Json)),
        );
        check("application/vnd.kubernetes.protobuf", None);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Some((Shape::Table, Format::Json)),
        );
        check("application/json;as=Table;v=v2;g=meta.k8s.io", None);
        check(
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            Some((Shape::Partial, Format::Json)),
        );
        check("application/yaml", Some((Shape::Whole, Format::Yaml)));
        check("text/plain", None);
        check("*/*", Some((Shape::Whole, Format::Json)));
        check(
            "application/json;stream=watch",
            Some((Shape::Whole, Format::Json)),
        );
    }
}
