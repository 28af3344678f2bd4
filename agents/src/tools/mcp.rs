//! MCP servers: connections that are kept and opened again, functions that are listed and called.

mod error;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use protocol::secret::SecretString;
use rmcp::{
    RoleClient,
    model::{
        CallToolRequestParams, CallToolResult, ContentBlock, JsonObject, ProtocolVersion,
        RequestMetaObject, Tool,
    },
    service::{ClientLifecycleMode, ClientServiceExt, RunningService},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::Value;

use crate::{failure::Failure, outbound::Outbound};

/// The key of the idempotency id in a request's `_meta`.
const IDEMPOTENCY_META: &str = "quarterdeck.dev/idempotency-key";
/// Longest handshake with a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a list of functions is believed.
const LIST_AGE_MAX: Duration = Duration::from_secs(60);
/// Most connections that are kept.
const CONNECTIONS_MAX: usize = 256;

/// A server and how to reach it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) url: &'a str,
    pub(crate) headers: &'a BTreeMap<String, SecretString>,
}

/// Connections by address and headers.
#[derive(Debug, Default)]
pub(crate) struct McpPool {
    slots: Mutex<HashMap<SlotKey, Arc<Slot>>>,
}

/// The headers are part of the key: who asks is part of the connection.
#[derive(Clone, PartialEq, Eq, Hash)]
struct SlotKey(String);

impl std::fmt::Debug for SlotKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SlotKey([redacted])")
    }
}

/// At most one connection; whoever finds none makes it while the others wait.
#[derive(Debug, Default)]
struct Slot {
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    service: RunningService<RoleClient, ()>,
    functions: Mutex<Option<(Instant, Arc<Vec<Tool>>)>>,
}

impl McpPool {
    /// The functions of a server.
    pub(crate) async fn functions(
        &self,
        outbound: &Outbound,
        server: Server<'_>,
    ) -> Result<Arc<Vec<Tool>>, Failure> {
        let connection = self.connection(outbound, server).await?;
        let listed = connection.functions.lock().clone();
        if let Some((when, functions)) = listed
            && when.elapsed() < LIST_AGE_MAX
        {
            return Ok(functions);
        }
        let functions = connection.service.list_all_tools().await;
        let functions = functions.map_err(|error| match error::request(&shown(server), &error) {
            // Listing has no effects: what broke off is asked again.
            Failure::Transient { message } => Failure::unavailable(message),
            failure => failure,
        });
        let functions = Arc::new(functions?);
        *connection.functions.lock() = Some((Instant::now(), Arc::clone(&functions)));
        Ok(functions)
    }

    /// Calls a function. A server that knows the idempotency id in `_meta` can answer a repeat from memory.
    pub(crate) async fn call(
        &self,
        outbound: &Outbound,
        server: Server<'_>,
        function: &str,
        arguments: JsonObject,
        id: &str,
    ) -> Result<Value, Failure> {
        let connection = self.connection(outbound, server).await?;
        let mut meta = RequestMetaObject::default();
        meta.insert(IDEMPOTENCY_META.to_owned(), Value::String(id.to_owned()));
        let mut request = CallToolRequestParams::new(function.to_owned()).with_arguments(arguments);
        request.meta = Some(meta);
        let result = connection.service.call_tool(request).await;
        content(result.map_err(|error| error::request(&shown(server), &error))?)
    }

    async fn connection(
        &self,
        outbound: &Outbound,
        server: Server<'_>,
    ) -> Result<Arc<Connection>, Failure> {
        let slot = self.slot(server);
        let mut held = slot.connection.lock().await;
        if let Some(connection) = held.as_ref()
            && !connection.service.is_closed()
            && !connection.service.is_transport_closed()
        {
            return Ok(Arc::clone(connection));
        }
        *held = None;
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(outbound, server));
        let service = connecting.await.map_err(|_| {
            Failure::unavailable(format!("the MCP server {} did not answer", shown(server)))
        })??;
        let connection = Arc::new(Connection {
            service,
            functions: Mutex::new(None),
        });
        *held = Some(Arc::clone(&connection));
        Ok(connection)
    }

    fn slot(&self, server: Server<'_>) -> Arc<Slot> {
        let mut text = server.url.to_owned();
        for (name, value) in server.headers {
            text.push('\n');
            text.push_str(name);
            text.push(':');
            text.push_str(value.expose());
        }
        let mut slots = self.slots.lock();
        let key = SlotKey(text);
        if CONNECTIONS_MAX <= slots.len() && !slots.contains_key(&key) {
            // Those that nobody uses now are made again when they are needed.
            slots.retain(|_, slot| 1 < Arc::strong_count(slot));
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

async fn connect(
    outbound: &Outbound,
    server: Server<'_>,
) -> Result<RunningService<RoleClient, ()>, Failure> {
    let mut headers = HashMap::new();
    for (name, value) in server.headers {
        let invalid = || Failure::permanent(format!("`{name}` is not an HTTP header"));
        let mut header = HeaderValue::try_from(value.expose()).map_err(|_| invalid())?;
        header.set_sensitive(true);
        headers.insert(
            HeaderName::try_from(name.as_str()).map_err(|_| invalid())?,
            header,
        );
    }
    let config = StreamableHttpClientTransportConfig::with_uri(server.url).custom_headers(headers);
    let transport =
        StreamableHttpClientTransport::with_client(outbound.client(server.url).clone(), config);
    // Asks a server of today's protocol what it can, and shakes hands with one of an earlier.
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: None,
    };
    ().serve_with_lifecycle(transport, lifecycle)
        .await
        .map_err(|error| error::handshake(&shown(server), &error))
}

/// The server without what may be a credential in its address.
fn shown(server: Server<'_>) -> String {
    match url::Url::parse(server.url) {
        Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        Err(_) => "at an invalid address".to_owned(),
    }
}

/// What a function gave: structured content if there is any, the text if all is text, otherwise the blocks.
fn content(result: CallToolResult) -> Result<Value, Failure> {
    let is_error = result.is_error.unwrap_or(false);
    let mut texts = Vec::with_capacity(result.content.len());
    for block in &result.content {
        if let ContentBlock::Text(text) = block {
            texts.push(text.text.as_str());
        }
    }
    let is_text = texts.len() == result.content.len();
    let text = texts.join("\n");
    if is_error {
        return Err(Failure::transient(if text.is_empty() {
            "the function failed".to_owned()
        } else {
            text
        }));
    }
    Ok(match result.structured_content {
        Some(structured) => structured,
        None if is_text => Value::String(text),
        None => serde_json::to_value(&result.content).unwrap_or(Value::Null),
    })
}
