//! Tools through the gateway: what clients of each revision see of servers of each revision.

mod client;
mod federation;
mod hostile;
mod prices;
mod sdk;
mod search;
mod sessions;

use protocol::snapshot::{Access, Mcp, McpServer, RouteEntry};
use testkit::tool_server::{Behaviour, Revision, ToolServer};

use super::harness::{Harness, key};

/// Servers of all revisions, with plain answers and with streams.
const BEHAVIOURS: [(Revision, bool); 5] = [
    (Revision::Sessions, false),
    (Revision::Sessions, true),
    (Revision::SessionsUnnamed, false),
    (Revision::Stateless, false),
    (Revision::Stateless, true),
];

async fn tool_server(revision: Revision, streams: bool) -> ToolServer {
    ToolServer::start(Behaviour {
        revision,
        streams,
        authorization: None,
    })
    .await
}

fn server(name: &str, url: String) -> McpServer {
    McpServer {
        name: name.to_owned(),
        url,
        timeout_millis: 20_000,
        ..McpServer::default()
    }
}

fn tools(route: &str, access: Access, servers: Vec<McpServer>) -> RouteEntry {
    RouteEntry {
        namespace: "ns".to_owned(),
        name: route.to_owned(),
        access,
        mcp: Some(Mcp {
            servers,
            ..Mcp::default()
        }),
        ..RouteEntry::default()
    }
}

/// A gateway with one server `one` in the route `tools`, for the keys `a` and `b`.
async fn gateway(tool_server: &ToolServer) -> Harness {
    let servers = vec![server("one", tool_server.url())];
    let routes = vec![tools("tools", Access::AnyKey, servers)];
    Harness::start(routes, vec![key("a"), key("b")]).await
}
