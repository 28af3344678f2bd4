//! The tool servers of routes, compiled: where they are, how to show oneself, and who may use which of their tools.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::Uri;
use protocol::snapshot::{self, McpServer, ToolRule};
use tracing::warn;

use super::prices::Prices;
use crate::{
    authorize::Caller,
    cost::Cost,
    credential::{Auth, uri},
    table::{InvalidSnapshot, Pattern, Route},
};

/// The tool servers of a route.
#[derive(Debug)]
pub(crate) struct ToolServers {
    /// The servers.
    pub(super) servers: Vec<Arc<Server>>,
    /// Web pages that browsers may call from.
    pub(super) allowed_origins: Vec<String>,
    /// Issuers of tokens.
    pub(super) authorization_servers: Vec<String>,
    /// Whether clients find their tools in the place of seeing all.
    pub(super) is_searched: bool,
}

/// A tool server.
#[derive(Debug)]
pub(crate) struct Server {
    /// `NAMESPACE/ROUTE/NAME`.
    pub(super) id: String,
    /// Its name in the route.
    pub(super) name: String,
    /// Its endpoint.
    pub(super) uri: Uri,
    /// How the gateway shows itself.
    pub(super) auth: Auth,
    /// Longest silence while something is asked of it.
    pub(super) timeout: Duration,
    rules: Vec<Rule>,
    prices: Option<Prices>,
    /// What it was compiled from, to tell whether it is another one.
    entry: McpServer,
}

#[derive(Debug)]
struct Rule {
    keys: Option<HashSet<String>>,
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

/// The tool servers of all routes, each with the prefix that it has where all are together.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(super) seats: Vec<Seat>,
    /// The routes that have something else than models, by id.
    routes: HashMap<String, Vec<Arc<Route>>>,
}

/// A server in a place where several are together.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    /// What its tools' names begin with, before a `_`.
    pub(super) prefix: String,
    /// The server.
    pub(super) server: Arc<Server>,
    /// Its route.
    pub(super) route: Arc<Route>,
}

impl Directory {
    /// The servers of these routes. A name that two routes use gets the namespace and the route before it.
    pub(crate) fn of(routes: &[Arc<Route>]) -> Self {
        let mut uses: HashMap<&str, usize> = HashMap::new();
        let all = || {
            routes.iter().flat_map(|route| {
                let servers = route.mcp.iter().flat_map(|mcp| &mcp.servers);
                servers.map(move |server| (route, server))
            })
        };
        for (_, server) in all() {
            *uses.entry(&server.name).or_default() += 1;
        }
        let mut seats: Vec<Seat> = Vec::new();
        for (route, server) in all() {
            let prefix = match uses.get(&*server.name) {
                Some(1) => server.name.clone(),
                _ => server.id.replace('/', "-"),
            };
            if seats.iter().any(|seat| seat.prefix == prefix) {
                warn!(
                    server = server.id,
                    "a tool server is left out of /mcp, its name is taken"
                );
                continue;
            }
            seats.push(Seat {
                prefix,
                server: Arc::clone(server),
                route: Arc::clone(route),
            });
        }
        let mut by_id: HashMap<String, Vec<Arc<Route>>> = HashMap::new();
        for route in routes {
            if route.mcp.is_some() || route.a2a.is_some() {
                let same = by_id.entry(route.id.clone()).or_default();
                same.push(Arc::clone(route));
            }
        }
        Self {
            seats,
            routes: by_id,
        }
    }

    /// The route of this id that has what is asked for.
    pub(crate) fn route(&self, id: &str, has: impl Fn(&Route) -> bool) -> Option<Arc<Route>> {
        self.routes
            .get(id)?
            .iter()
            .find(|route| has(route))
            .cloned()
    }
}

impl ToolServers {
    /// Compiles the tool servers of a route.
    ///
    /// # Errors
    /// [`InvalidSnapshot`] about a URL, a credential or a pattern.
    pub(crate) fn compile(route: &str, mcp: &snapshot::Mcp) -> Result<Self, InvalidSnapshot> {
        let servers = mcp.servers.iter();
        let servers = servers.map(|server| Server::compile(route, server).map(Arc::new));
        Ok(Self {
            servers: servers.collect::<Result<_, _>>()?,
            allowed_origins: mcp.allowed_origins.clone(),
            authorization_servers: mcp.authorization_servers.clone(),
            is_searched: mcp.tool_search,
        })
    }
}

impl Server {
    fn compile(route: &str, entry: &McpServer) -> Result<Self, InvalidSnapshot> {
        let rules = entry.tools.iter().map(|rule| Rule::compile(route, rule));
        Ok(Self {
            id: format!("{route}/{}", entry.name),
            name: entry.name.clone(),
            uri: uri(route, &entry.name, &entry.url)?,
            auth: Auth::compile(route, &entry.name, &entry.auth)?,
            timeout: Duration::from_millis(entry.timeout_millis.max(1)),
            rules: rules.collect::<Result<_, _>>()?,
            prices: entry
                .prices
                .as_ref()
                .map(|prices| Prices::compile(route, prices))
                .transpose()?,
            entry: entry.clone(),
        })
    }

    /// Whether the caller may use a tool, by its name at the server.
    pub(super) fn may_use(&self, caller: &Caller, tool: &str) -> bool {
        let fits = |rule: &&Rule| {
            rule.keys
                .as_ref()
                .is_none_or(|keys| keys.contains(caller.account()))
        };
        self.rules
            .iter()
            .find(fits)
            .is_none_or(|rule| rule.allows(tool))
    }

    /// What a call of a tool costs, by its name at the server.
    pub(super) fn price(&self, tool: &str) -> Cost {
        let prices = self.prices.as_ref();
        prices.map(|prices| prices.of(tool)).unwrap_or_default()
    }

    /// Whether a connection to this server is as good as one to the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let McpServer {
            url,
            auth,
            timeout_millis,
            ..
        } = &self.entry;
        *url == other.entry.url
            && *auth == other.entry.auth
            && *timeout_millis == other.entry.timeout_millis
    }
}

impl Rule {
    fn compile(route: &str, rule: &ToolRule) -> Result<Self, InvalidSnapshot> {
        let patterns = |patterns: &[String]| {
            let patterns = patterns.iter();
            patterns
                .map(|pattern| Pattern::parse(pattern).map_err(|invalid| invalid.of(route)))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            keys: rule
                .keys
                .as_ref()
                .map(|keys| keys.iter().cloned().collect()),
            allow: patterns(&rule.allow)?,
            deny: patterns(&rule.deny)?,
        })
    }

    fn allows(&self, tool: &str) -> bool {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(tool));
        (self.allow.is_empty() || matches(&self.allow)) && !matches(&self.deny)
    }
}
