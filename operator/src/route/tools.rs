//! A Route's tool servers and agents, as the gateway takes them.

use crds::{
    condition::Reason,
    reference::SecretKeyRef,
    route::{self, OauthClient},
};
use protocol::{
    address::{host_of, is_forbidden_host},
    secret::SecretString,
    snapshot::{
        A2a, A2aAgent, ClientCredentials, HeaderCredential, Mcp, McpServer, ToolPrice, ToolPrices,
        ToolRule, UpstreamAuth,
    },
};

use super::{dereference::World, limits::dollars, validate::InvalidRoute};
use crate::{model, quantities::duration};

/// The longest silence of a server that does not say, in milliseconds.
const TIMEOUT_MILLIS: u64 = 60_000;
/// The key of a Secret with a client's id.
const CLIENT_ID: &str = "client-id";
/// The key of a Secret with a client's secret.
const CLIENT_SECRET: &str = "client-secret";

/// What is named and cannot be used, and why.
type Unresolved = Vec<(Reason, String)>;

/// The tool servers whose credentials there are.
pub(super) fn mcp(
    mcp: Option<&route::Mcp>,
    world: &World,
    unresolved: &mut Unresolved,
) -> Result<Option<Mcp>, InvalidRoute> {
    let Some(mcp) = mcp else { return Ok(None) };
    let mut servers = Vec::new();
    for (index, server) in mcp.servers.iter().enumerate() {
        let path = format!("spec.mcp.servers[{index}]");
        let shown = Shown {
            url: &server.url,
            secret: server.secret_ref.as_ref(),
            header: server.header.as_deref(),
            oauth: server.oauth.as_ref(),
            timeout: server.timeout.as_deref(),
        };
        let (auth, timeout_millis) = shown.validate(&path, world)?;
        let prices = prices(&format!("{path}.prices"), server.prices.as_ref())?;
        match auth {
            Ok(auth) => servers.push(McpServer {
                name: server.name.clone(),
                url: server.url.clone(),
                auth,
                tools: rules(server.tools.as_ref(), world),
                prices,
                timeout_millis,
            }),
            Err(fault) => unresolved.push(fault),
        }
    }
    Ok(Some(Mcp {
        servers,
        allowed_origins: mcp.allowed_origins.clone(),
        authorization_servers: mcp.authorization_servers.clone(),
        tool_search: mcp.tool_search,
    }))
}

/// The agents whose credentials there are.
pub(super) fn a2a(
    a2a: Option<&route::A2a>,
    world: &World,
    unresolved: &mut Unresolved,
) -> Result<Option<A2a>, InvalidRoute> {
    let Some(a2a) = a2a else { return Ok(None) };
    let mut agents = Vec::new();
    for (index, agent) in a2a.agents.iter().enumerate() {
        let path = format!("spec.a2a.agents[{index}]");
        let shown = Shown {
            url: &agent.url,
            secret: agent.secret_ref.as_ref(),
            header: agent.header.as_deref(),
            oauth: agent.oauth.as_ref(),
            timeout: agent.timeout.as_deref(),
        };
        let (auth, timeout_millis) = shown.validate(&path, world)?;
        match auth {
            Ok(auth) => agents.push(A2aAgent {
                name: agent.name.clone(),
                url: agent.url.trim_end_matches('/').to_owned(),
                auth,
                timeout_millis,
            }),
            Err(fault) => unresolved.push(fault),
        }
    }
    Ok(Some(A2a { agents }))
}

/// The Secrets that a Route's tool servers and agents name.
pub(super) fn secret_names(spec: &route::RouteSpec) -> Vec<String> {
    let servers = spec.mcp.iter().flat_map(|mcp| &mcp.servers);
    let servers = servers.map(|server| (&server.secret_ref, &server.oauth));
    let agents = spec.a2a.iter().flat_map(|a2a| &a2a.agents);
    let agents = agents.map(|agent| (&agent.secret_ref, &agent.oauth));
    let mut names = Vec::new();
    for (secret, oauth) in servers.chain(agents) {
        names.extend(secret.as_ref().map(|secret| secret.name.clone()));
        names.extend(oauth.as_ref().map(|oauth| oauth.secret_ref.name.clone()));
    }
    names
}

/// How a server is reached.
struct Shown<'a> {
    url: &'a str,
    secret: Option<&'a SecretKeyRef>,
    header: Option<&'a str>,
    oauth: Option<&'a OauthClient>,
    timeout: Option<&'a str>,
}

/// How the gateway shows itself, or what is missing for it, and the longest silence in milliseconds.
type Validated = (Result<UpstreamAuth, (Reason, String)>, u64);

impl Shown<'_> {
    fn validate(&self, path: &str, world: &World) -> Result<Validated, InvalidRoute> {
        check_address(format!("{path}.url"), self.url)?;
        let timeout = match self.timeout {
            None => Some(TIMEOUT_MILLIS),
            Some(text) => duration(text)
                .filter(|timeout| !timeout.is_zero())
                .and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
        };
        let timeout = timeout.ok_or_else(|| InvalidRoute::Window {
            path: format!("{path}.timeout"),
            value: self.timeout.unwrap_or_default().to_owned(),
        })?;
        if let Some(oauth) = self.oauth {
            check_address(format!("{path}.oauth.tokenURL"), &oauth.token_url)?;
        }
        let auth = self.auth(path, world);
        Ok((
            auth.map_err(|fault| (fault.reason(), fault.to_string())),
            timeout,
        ))
    }

    fn auth(&self, path: &str, world: &World) -> Result<UpstreamAuth, model::BadCredential> {
        if let Some(oauth) = self.oauth {
            let path = format!("{path}.oauth.secretRef");
            let of = |key: &str| {
                let reference = SecretKeyRef {
                    name: oauth.secret_ref.name.clone(),
                    key: key.to_owned(),
                };
                model::credential(&reference, &path, &world.secrets)
            };
            return Ok(UpstreamAuth::ClientCredentials(ClientCredentials {
                token_url: oauth.token_url.clone(),
                client_id: of(CLIENT_ID)?.expose().to_owned(),
                client_secret: of(CLIENT_SECRET)?,
                scope: oauth.scopes.join(" "),
            }));
        }
        let Some(secret) = self.secret else {
            return Ok(UpstreamAuth::None);
        };
        let value = model::credential(secret, &format!("{path}.secretRef"), &world.secrets)?;
        let header = self.header.unwrap_or("Authorization");
        let value = if header.eq_ignore_ascii_case("authorization") {
            SecretString::new(format!("Bearer {}", value.expose()))
        } else {
            value
        };
        Ok(UpstreamAuth::Header(HeaderCredential {
            name: header.to_owned(),
            value,
        }))
    }
}

fn check_address(path: String, url: &str) -> Result<(), InvalidRoute> {
    if host_of(url).is_none_or(is_forbidden_host) {
        let url = url.to_owned();
        return Err(InvalidRoute::Address { path, url });
    }
    Ok(())
}

/// What calls of a server's tools cost, at a path.
fn prices(
    at: &str,
    prices: Option<&route::ToolPrices>,
) -> Result<Option<ToolPrices>, InvalidRoute> {
    let Some(prices) = prices else {
        return Ok(None);
    };
    let tools = prices.tools.iter().enumerate();
    let tools = tools.map(|(index, tool)| {
        Ok(ToolPrice {
            name: tool.name.clone(),
            per_call_nanos: dollars(|| format!("{at}.tools[{index}].perCall"), &tool.per_call)?,
        })
    });
    Ok(Some(ToolPrices {
        per_call_nanos: dollars(|| format!("{at}.perCall"), &prices.per_call)?,
        tools: tools.collect::<Result<_, InvalidRoute>>()?,
    }))
}

/// The rules in the order in which they are asked; the last one is for everybody.
fn rules(filter: Option<&route::ToolFilter>, world: &World) -> Vec<ToolRule> {
    let Some(filter) = filter else {
        return Vec::new();
    };
    let per_key = filter.per_key.iter().map(|rule| {
        let is_picked = |labels: &std::collections::BTreeMap<String, String>| {
            let mut wanted = rule.selector.match_labels.iter();
            wanted.all(|(key, value)| labels.get(key) == Some(value))
        };
        let picked = world.keys.iter().filter(|key| is_picked(&key.labels));
        let mut keys: Vec<String> = picked.map(|key| key.id.clone()).collect();
        keys.sort();
        ToolRule {
            keys: Some(keys),
            allow: rule.allow.clone(),
            deny: rule.deny.clone(),
        }
    });
    let for_all = ToolRule {
        keys: None,
        allow: filter.allow.clone(),
        deny: filter.deny.clone(),
    };
    per_key.chain([for_all]).collect()
}
