//! The protocol's official client goes through the gateway, in its revisions.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use rmcp::{
    ClientHandler, RoleClient,
    model::{
        CallToolRequestParams, GetPromptRequestParams, ProgressNotificationParam, ProtocolVersion,
        ReadResourceRequestParams,
    },
    service::{ClientLifecycleMode, ClientServiceExt, NotificationContext, RunningService},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{BEHAVIOURS, gateway, tool_server};
use crate::tests::harness::Harness;

/// What the client is told beside its answers.
#[derive(Clone, Default)]
struct Listener {
    progress: Arc<Mutex<Vec<f64>>>,
    changed: Arc<Notify>,
}

impl ClientHandler for Listener {
    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.progress.lock().push(params.progress);
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

async fn connect(
    harness: &Harness,
    listener: Listener,
    lifecycle: ClientLifecycleMode,
) -> RunningService<RoleClient, Listener> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = HeaderValue::from_static("Bearer qd-a");
    let headers = HashMap::from([(HeaderName::from_static("authorization"), key)]);
    let config =
        StreamableHttpClientTransportConfig::with_uri(harness.url("/mcp")).custom_headers(headers);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let transport = StreamableHttpClientTransport::with_client(client, config);
    listener
        .serve_with_lifecycle(transport, lifecycle)
        .await
        .unwrap()
}

fn lifecycles() -> [ClientLifecycleMode; 2] {
    [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        },
    ]
}

#[tokio::test]
async fn the_official_client_lists_calls_reads_and_prompts() {
    for (revision, streams) in BEHAVIOURS {
        let upstream = tool_server(revision, streams).await;
        let harness = gateway(&upstream).await;
        for lifecycle in lifecycles() {
            let context = format!("{revision:?} {streams} {lifecycle:?}");
            let client = connect(&harness, Listener::default(), lifecycle).await;
            let tools = client.list_all_tools().await.expect(&context);
            let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
            assert_eq!(
                names,
                ["one_echo", "one_slow", "one_ask", "one_fail"],
                "{context}"
            );
            let arguments = json!({"x": [1, "ü"]}).as_object().cloned().unwrap();
            let call = CallToolRequestParams::new("one_echo").with_arguments(arguments);
            let result = client.call_tool(call).await.expect(&context);
            assert_eq!(
                result.structured_content,
                Some(json!({"x": [1, "ü"]})),
                "{context}"
            );
            let failed = client
                .call_tool(CallToolRequestParams::new("one_fail"))
                .await;
            assert_eq!(failed.expect(&context).is_error, Some(true), "{context}");
            let unknown = client
                .call_tool(CallToolRequestParams::new("one_none"))
                .await;
            assert!(unknown.is_err(), "{context}");
            let prompts = client.list_all_prompts().await.expect(&context);
            assert_eq!(prompts[0].name, "one_greet", "{context}");
            let prompt = client
                .get_prompt(GetPromptRequestParams::new("one_greet"))
                .await;
            assert_eq!(prompt.expect(&context).messages.len(), 1, "{context}");
            let resources = client.list_all_resources().await.expect(&context);
            assert_eq!(resources[0].uri, "one+file:///a", "{context}");
            let read = ReadResourceRequestParams::new("one+file:///a");
            let read = client.read_resource(read).await.expect(&context);
            assert_eq!(read.contents.len(), 1, "{context}");
            let templates = client.list_all_resource_templates().await.expect(&context);
            assert_eq!(templates[0].uri_template, "one+file:///{name}", "{context}");
            client.cancel().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_official_client_sees_progress_and_changes() {
    for (revision, _) in BEHAVIOURS {
        let upstream = tool_server(revision, false).await;
        let harness = gateway(&upstream).await;
        let listener = Listener::default();
        let client = connect(&harness, listener.clone(), ClientLifecycleMode::Initialize).await;
        client.list_all_tools().await.unwrap();
        upstream.heard_by(1).await;
        upstream.announce("notifications/tools/list_changed", &json!({}));
        listener.changed.notified().await;
        let mut call = CallToolRequestParams::new("one_slow");
        call.meta = Some(Default::default());
        let calling = client.call_tool(call);
        upstream.release();
        let result: Value = serde_json::to_value(calling.await.unwrap()).unwrap();
        assert_eq!(result["content"][0]["text"], "at last");
        client.cancel().await.unwrap();
    }
}
