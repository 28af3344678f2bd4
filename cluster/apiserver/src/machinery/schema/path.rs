//! Field paths as the real server writes them: `spec.env[0].name`.

/// The path of a field of an object.
pub(crate) fn child(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The path of an item of a list.
pub(crate) fn index(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}
