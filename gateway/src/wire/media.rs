//! Media types by the endings of names.

/// Endings and their types.
const TYPES: [(&str, &str); 18] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("heic", "image/heic"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("doc", "application/msword"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("xls", "application/vnd.ms-excel"),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
];

/// The type that the end of a URL's path tells.
pub(super) fn type_of_url(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit_once('.')?;
    let is_it = |(known, _): &&(&str, &str)| known.eq_ignore_ascii_case(ending);
    TYPES.iter().find(is_it).map(|(_, media_type)| *media_type)
}

/// The ending of a type, as `png` of `image/png`.
pub(super) fn ending_of_type(media_type: &str) -> Option<&'static str> {
    let is_it = |(_, known): &&(&str, &str)| known.eq_ignore_ascii_case(media_type);
    // `jpeg` is the common word for what ends in `jpg`.
    match TYPES.iter().find(is_it)? {
        ("jpg", _) => Some("jpeg"),
        (ending, _) => Some(ending),
    }
}

#[cfg(test)]
mod tests {
    use super::{ending_of_type, type_of_url};

    #[test]
    fn endings_tell_types_and_types_endings() {
        assert_eq!(type_of_url("https://a.b/c.PNG?d=.gif"), Some("image/png"));
        assert_eq!(type_of_url("https://a.b/c"), None);
        assert_eq!(ending_of_type("image/jpeg"), Some("jpeg"));
        assert_eq!(ending_of_type("image/tiff"), None);
    }
}
