//! Health: alive as soon as requests are answered, ready once the first objects are there.

use http::{Response, StatusCode};

use super::Api;
use crate::request::Query;
use crate::response::{Body, text};

impl Api {
    pub(super) fn health(&self, check: &str, query: &Query) -> Response<Body> {
        let mut checks = vec![("ping", true), ("log", true), ("store", true)];
        if check == "readyz" {
            checks.push(("bootstrap", self.is_ready()));
            checks.push(("shutdown", !self.shutdown.is_cancelled()));
        }
        let failed = checks.iter().any(|(_, fine)| !fine);
        let status = if failed {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::OK
        };
        if !failed && !query.is_true("verbose") {
            return text(status, "ok");
        }
        let mut lines = String::new();
        for (name, fine) in checks {
            let line = if fine {
                format!("[+]{name} ok\n")
            } else {
                format!("[-]{name} failed\n")
            };
            lines.push_str(&line);
        }
        lines.push_str(&format!(
            "{check} check {}\n",
            if failed { "failed" } else { "passed" }
        ));
        text(status, lines)
    }
}
