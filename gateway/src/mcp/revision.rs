//! The revisions of the protocol that the gateway speaks, with clients and with servers.

/// A revision of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Revision {
    /// 2025-03-26.
    March2025,
    /// 2025-06-18.
    June2025,
    /// 2025-11-25.
    November2025,
    /// 2026-07-28.
    July2026,
}

impl Revision {
    /// All revisions, newest first.
    pub(super) const ALL: [Self; 4] = [
        Self::July2026,
        Self::November2025,
        Self::June2025,
        Self::March2025,
    ];
    /// The newest one that begins with a handshake.
    pub(super) const NEWEST_WITH_SESSIONS: Self = Self::November2025;
    /// The newest one.
    pub(super) const NEWEST: Self = Self::July2026;

    /// The name in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::March2025 => "2025-03-26",
            Self::June2025 => "2025-06-18",
            Self::November2025 => "2025-11-25",
            Self::July2026 => "2026-07-28",
        }
    }

    /// The revision of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|revision| revision.name() == name)
    }

    /// Whether there are no sessions: each request says all that is needed to answer it.
    pub(super) const fn is_stateless(self) -> bool {
        matches!(self, Self::July2026)
    }

    /// Whether several messages may come in one request.
    pub(super) const fn has_batches(self) -> bool {
        matches!(self, Self::March2025)
    }
}

/// Whether a revision, perhaps one that nobody here knows, begins with a handshake.
pub(super) fn begins_with_handshake(name: &str) -> bool {
    // Revisions are dates, which sort as texts.
    name < Revision::NEWEST.name()
}
