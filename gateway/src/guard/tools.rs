//! Tools that models may be offered, and may call.

/// Which tools are allowed.
#[derive(Debug)]
pub(super) struct Tools {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Tools {
    /// Only those of `allow`, unless it is empty, and none of `deny`.
    pub(super) fn new(allow: &[String], deny: &[String]) -> Self {
        Self {
            allow: allow.to_vec(),
            deny: deny.to_vec(),
        }
    }

    /// Whether a tool is allowed.
    pub(super) fn allows(&self, name: &str) -> bool {
        let has = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        !has(&self.deny) && (self.allow.is_empty() || has(&self.allow))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::Tools;

    #[track_caller]
    fn check(allow: &[&str], deny: &[&str], name: &str, expected: bool) {
        let list = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        assert_eq!(Tools::new(&list(allow), &list(deny)).allows(name), expected);
    }

    #[test]
    fn what_is_denied_is_denied_and_what_is_listed_is_allowed() {
        check(&[], &[], "read", true);
        check(&["read"], &[], "read", true);
        check(&["read"], &[], "reader", false);
        check(&["read*"], &["reader"], "reads", true);
        check(&["read*"], &["reader"], "reader", false);
        check(&[], &["shell*"], "shell_exec", false);
        check(&[], &["*"], "read", false);
    }
}
