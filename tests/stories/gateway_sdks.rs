//! The SDKs of OpenAI and Anthropic see through the gateway what they see at the engine itself.

use anyhow::{Result, ensure};
use protocol::key::hash_key;
use serde_json::json;

use crate::{
    engine_sdks::{Engine, run},
    gateway::Gateway,
    harness::block_on,
};

#[test]
fn sdks_see_through_the_gateway_what_they_see_at_the_engine() -> Result<()> {
    let engine = Engine::with_weights(&[])?;
    let folder = tempfile::tempdir()?;
    let target = json!({"name": "own", "model": "smollm2", "endpoints": [engine.url()], "weight": 1, "priority": 0});
    // The scripts' key, which the engine does not look at.
    let key = json!({"id": "default/none", "hash": hash_key("none")});
    let snapshot = json!({"keys": [key], "routes": [{
        "namespace": "default", "name": "smollm2", "generation": 1, "models": ["smollm2"], "strategy": "Weighted",
        "affinity": "Prefix", "targets": [target],
    }]});
    // As much as the engine takes.
    let flags = ["--body-bytes-max", "8388608"];
    let gateway = block_on(Gateway::start(folder.path(), &snapshot, &flags))?;
    for script in ["chat_openai.py", "chat_anthropic.py"] {
        let (straight, through) = (run(script, engine.url())?, run(script, &gateway.url())?);
        ensure!(straight == through, "{script}: {straight:#}\n{through:#}");
    }
    gateway.stop()
}
