//! What was found out about the revisions that tool servers speak, so that not each session asks again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{directory::Server, link::Era};

/// How long an answer is believed.
const AGE_MAX: Duration = Duration::from_secs(600);
/// Servers that are remembered.
const SERVERS_MAX: usize = 4096;

/// What was found out, by the server's URL.
#[derive(Debug, Default)]
pub(super) struct Eras {
    known: Mutex<HashMap<String, (Instant, Era)>>,
}

impl Eras {
    /// What is known of a server.
    pub(super) fn get(&self, server: &Server) -> Option<Era> {
        let known = self.known.lock();
        let (since, era) = known.get(&server.uri.to_string())?;
        (since.elapsed() < AGE_MAX).then(|| era.clone())
    }

    /// Notes what was found out.
    pub(super) fn set(&self, server: &Server, era: Era) {
        let mut known = self.known.lock();
        if SERVERS_MAX <= known.len() {
            known.clear();
        }
        known.insert(server.uri.to_string(), (Instant::now(), era));
    }

    /// Drops what may be no longer true.
    pub(super) fn forget(&self, server: &Server) {
        self.known.lock().remove(&server.uri.to_string());
    }
}
