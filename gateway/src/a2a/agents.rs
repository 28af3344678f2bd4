//! The agents of routes, compiled: where they are, and how to show oneself.

use std::{sync::Arc, time::Duration};

use http::Uri;
use protocol::snapshot::{self, A2aAgent};

use crate::{
    credential::{Auth, uri},
    table::InvalidSnapshot,
};

/// The agents of a route.
#[derive(Debug)]
pub(crate) struct Agents(Vec<Arc<Agent>>);

/// An agent.
#[derive(Debug)]
pub(super) struct Agent {
    /// `NAMESPACE/ROUTE/NAME`.
    pub(super) id: String,
    /// Its name in the route.
    pub(super) name: String,
    /// The URL below which its card lies.
    pub(super) uri: Uri,
    /// How the gateway shows itself.
    pub(super) auth: Auth,
    /// Longest silence while something is asked of it.
    pub(super) timeout: Duration,
}

impl Agents {
    /// Compiles the agents of a route.
    ///
    /// # Errors
    /// [`InvalidSnapshot`] about a URL or a credential.
    pub(crate) fn compile(route: &str, a2a: &snapshot::A2a) -> Result<Self, InvalidSnapshot> {
        let agents = a2a.agents.iter();
        let agents = agents.map(|agent| Agent::compile(route, agent).map(Arc::new));
        Ok(Self(agents.collect::<Result<_, _>>()?))
    }

    /// The agent of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Agent>> {
        self.0.iter().find(|agent| agent.name == name)
    }
}

impl Agent {
    fn compile(route: &str, agent: &A2aAgent) -> Result<Self, InvalidSnapshot> {
        Ok(Self {
            id: format!("{route}/{}", agent.name),
            name: agent.name.clone(),
            uri: uri(route, &agent.name, &agent.url)?,
            auth: Auth::compile(route, &agent.name, &agent.auth)?,
            timeout: Duration::from_millis(agent.timeout_millis.max(1)),
        })
    }

    /// Whether a URL is at the agent's own place: the gateway's credential goes nowhere else.
    pub(super) fn is_own(&self, other: &Uri) -> bool {
        let port = |uri: &Uri| {
            let default = if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            };
            uri.port_u16().unwrap_or(default)
        };
        self.uri.scheme() == other.scheme()
            && self.uri.host() == other.host()
            && port(&self.uri) == port(other)
    }
}
