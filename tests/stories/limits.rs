//! A platform team gives a route limits and a budget with kubectl; the OpenAI SDK meets them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;

use crate::{
    harness::{PATIENCE, Stack, checked},
    sdks::python,
};

const SDK_SCRIPT: &str = r#"
import json, sys
from openai import OpenAI, RateLimitError
url, key = sys.argv[1:]
client = OpenAI(base_url=url, api_key=key, max_retries=0)
messages = [{"role": "user", "content": "Hi"}]
seen = []
for model in ["rated", "rated", "rated", "paid", "paid"]:
    try:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, max_tokens=100)
        seen.append({"left": raw.headers.get("x-ratelimit-remaining-requests"), "text": raw.parse().choices[0].message.content})
    except RateLimitError as error:
        seen.append({"status": error.status_code, "code": error.code, "message": error.body["message"],
                     "after": error.response.headers.get("retry-after")})
print(json.dumps(seen))
"#;

#[test]
fn limits_and_budgets_of_a_route_are_kept_and_told_to_the_openai_sdk() -> Result<()> {
    let python = python("openai")?;
    let stack = Stack::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let model = runtime.block_on(ScriptedModel::start(vec!["one two three".into()]));
    stack.apply(&manifests(&model.base_url()))?;
    for route in ["route/rated", "route/paid"] {
        stack.wait_for(route, "Ready", PATIENCE)?;
    }
    let key = stack.key()?;
    let seen = checked(Command::new(python).args(["-c", SDK_SCRIPT, &stack.gateway(), &key]))?;
    let seen: Value = serde_json::from_str(&seen).context("reading the script's report")?;
    ensure!(
        seen[0] == json!({"left": "1", "text": "one two three"}),
        "{seen}"
    );
    ensure!(seen[1]["left"] == "0", "{seen}");
    ensure!(
        seen[2]["status"] == 429 && seen[2]["code"] == "rate_limit_exceeded",
        "{seen}"
    );
    let after = seen[2]["after"]
        .as_str()
        .and_then(|after| after.parse::<u64>().ok());
    ensure!(
        after.is_some_and(|after| (1..=1800).contains(&after)),
        "{seen}"
    );
    ensure!(seen[3]["text"] == "one two three", "{seen}");
    ensure!(
        seen[4]["status"] == 429 && seen[4]["code"] == "insufficient_quota",
        "{seen}"
    );
    let usage = stack.http_get(&format!("{}/usage", stack.gateway()), &key)?;
    let paid = usage["data"].as_array().context("no usage")?.iter();
    let paid: Vec<_> = paid.filter(|total| total["model"] == "paid").collect();
    ensure!(paid.len() == 1 && paid[0]["cost_usd"] == "3", "{usage}");
    let refused =
        stack.apply(&manifests(&model.base_url()).replace("amount: \"2\"", "amount: two"));
    let told = format!("{:#}", refused.err().context("nonsense was taken")?);
    ensure!(told.contains("spec.budgets[0].amount"), "{told}");
    drop(model);
    Ok(())
}

fn manifests(url: &str) -> String {
    format!(
        r#"
apiVersion: quarterdeck.dev/v1alpha1
kind: Model
metadata: {{name: scripted, namespace: default}}
spec:
  engine: {{type: External, external: {{baseURL: "{url}", model: scripted}}}}
---
apiVersion: quarterdeck.dev/v1alpha1
kind: Route
metadata: {{name: rated, namespace: default}}
spec:
  match: {{models: [rated]}}
  targets:
    backends:
    - {{name: own, modelRef: {{name: scripted}}}}
  limits:
  - {{name: hourly, requests: {{limit: 2, window: 1h}}}}
---
apiVersion: quarterdeck.dev/v1alpha1
kind: Route
metadata: {{name: paid, namespace: default}}
spec:
  match: {{models: [paid]}}
  targets:
    backends:
    - {{name: own, modelRef: {{name: scripted}}, prices: {{inputPerMillion: "0", outputPerMillion: "1000000"}}}}
  budgets:
  - {{name: monthly, per: Route, amount: "2", window: 720h}}
"#
    )
}
