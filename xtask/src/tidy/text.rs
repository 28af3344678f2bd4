//! What a file's text may hold.

use std::path::Path;

use super::Finding;

const LINES_MAX: usize = 600;
/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &[
    "utils.rs",
    "util.rs",
    "helpers.rs",
    "common.rs",
    "misc.rs",
    "types.rs",
    "mod.rs",
];
/// The only homes of `unsafe`, each block with its `SAFETY:`.
const UNSAFE_HOMES: &[&str] = &["workspaces/sandbox/", "engine/models/"];
/// Packages come by name through their clients; a host written down breaks mirrors. (Split, so that this file passes.)
const REGISTRY_HOSTS: &[&str] = &[
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("crates", ".io/"),
    concat!("deb.debian", ".org"),
];

/// Checks one file.
pub(super) fn check(path: &Path, content: &str) -> Vec<Finding> {
    let place = path.display().to_string();
    let mut rules = Vec::new();
    for host in REGISTRY_HOSTS
        .iter()
        .filter(|host| content.contains(**host) && !place.ends_with("Cargo.lock"))
    {
        rules.push(format!("names the registry host {host}"));
    }
    if place.ends_with(".rs") {
        rules.extend(check_rust(&place, content));
    }
    rules
        .into_iter()
        .map(|rule| Finding::new(&place, rule))
        .collect()
}

fn check_rust(place: &str, content: &str) -> Vec<String> {
    let mut rules = Vec::new();
    let lines = content.lines().count();
    if LINES_MAX < lines {
        rules.push(format!(
            "has {lines} lines, over {LINES_MAX}: two ideas in one room"
        ));
    }
    let is_test = place.ends_with("tests.rs") || place.contains("/tests/");
    if !content.starts_with("//!") && !is_test {
        rules.push("does not begin with `//!` and what it is for".to_owned());
    }
    let name = place.rsplit('/').next().unwrap_or(place);
    if EMPTY_NAMES.contains(&name) {
        rules.push("has a name that says nothing".to_owned());
    }
    for (number, line) in (1..).zip(content.lines()) {
        rules.extend(check_line(place, line).map(|rule| format!("line {number} {rule}")));
    }
    rules
}

fn check_line(place: &str, line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or(line);
    let is_tidy = place.starts_with("xtask/src/tidy");
    if code.contains("#[allow(") && !is_tidy {
        return Some("has `#[allow]`; use `#[expect(lint, reason = \"…\")]`".to_owned());
    }
    if code.contains("#[ignore]") && !is_tidy {
        return Some("ignores a test without a reason".to_owned());
    }
    let opens_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
        .iter()
        .any(|word| code.contains(word));
    if opens_unsafe && !is_tidy && !UNSAFE_HOMES.iter().any(|home| place.starts_with(home)) {
        return Some("is unsafe outside of workspaces/sandbox and engine/models".to_owned());
    }
    let is_test =
        place.ends_with("tests.rs") || place.contains("/tests/") || place.starts_with("tests/");
    if is_test && calls_sleep(code) {
        return Some("sleeps in a test; await the event".to_owned());
    }
    None
}

/// Whether a line waits for time to pass; a method of that name, as a backend's, is something else.
fn calls_sleep(code: &str) -> bool {
    code.match_indices("sleep(").any(|(start, _)| {
        let before = &code[..start];
        !before.ends_with("fn ") && !before.ends_with('.') && !before.ends_with('_')
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::check;

    #[track_caller]
    fn holds(path: &str, content: &str, rule: Option<&str>) {
        let findings = check(Path::new(path), content);
        match rule {
            None => assert_eq!(findings, []),
            Some(rule) => {
                assert!(
                    findings.iter().any(|finding| finding.rule.contains(rule)),
                    "{findings:?}"
                );
            }
        }
    }

    #[test]
    fn each_rule_is_found_where_it_is_broken_and_nowhere_else() {
        holds("gateway/src/route.rs", "//! Routes.\n", None);
        holds(
            "gateway/src/route.rs",
            "fn main() {}\n",
            Some("does not begin"),
        );
        holds(
            "gateway/src/utils.rs",
            "//! Things.\n",
            Some("says nothing"),
        );
        holds(
            "gateway/src/route.rs",
            "//! Routes.\nunsafe { x() }\n",
            Some("unsafe outside"),
        );
        holds(
            "workspaces/sandbox/src/x.rs",
            "//! Calls.\nunsafe { x() }\n",
            None,
        );
        holds(
            "tests/tests/chat.rs",
            "//! Chats.\nsleep(second).await;\n",
            Some("sleeps"),
        );
        holds(
            "tests/tests/chat.rs",
            "//! Chats.\nthread::sleep(second);\n",
            Some("sleeps"),
        );
        holds(
            "tests/tests/chat.rs",
            "//! Chats.\nfn sleep(&self) {}\nbackend.sleep(level);\n",
            None,
        );
        holds(
            "tests/tests/chat.rs",
            "//! Chats.\n#[ignore]\n",
            Some("without a reason"),
        );
        holds(
            "gateway/src/route.rs",
            &format!("//! Routes.\n{}", "\n".repeat(599)),
            None,
        );
        holds(
            "gateway/src/route.rs",
            &format!("//! Routes.\n{}", "\n".repeat(600)),
            Some("601 lines"),
        );
        holds(
            "docs/x.md",
            concat!("see pypi", ".org"),
            Some("registry host"),
        );
    }
}
