//! Which replica a conversation goes on at.

use protocol::snapshot::{Affinity, RouteEntry};
use serde_json::json;
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, key, route, target};

/// A conversation of so many turns about a topic.
fn conversation(topic: &str, turns: usize) -> String {
    let turn = |number: usize| {
        let role = if number.is_multiple_of(2) {
            "user"
        } else {
            "assistant"
        };
        json!({"role": role, "content": format!("{number}: {}", topic.repeat(100))})
    };
    let messages: Vec<_> = (0..turns).map(turn).collect();
    json!({"model": "m", "stream": true, "messages": messages}).to_string()
}

#[tokio::test]
async fn a_conversation_goes_on_at_the_replica_that_has_read_it() {
    let stall = || Answer::Stall {
        text: "one two three".to_owned(),
        events: 2,
    };
    let models = [
        ScriptedModel::start(vec![stall()]).await,
        ScriptedModel::start(vec![stall()]).await,
    ];
    let both = RouteEntry {
        affinity: Affinity::Prefix,
        ..route("m", vec![target("own", "m", &[&models[0], &models[1]])])
    };
    let harness = Harness::start(vec![both.clone()], vec![key("a")]).await;
    let ask = async |topic: &str, turns: usize| {
        let before = models.each_ref().map(|model| model.requests().len());
        let body = conversation(topic, turns);
        let mut stream = harness
            .stream("/v1/chat/completions", Some("qd-a"), &body)
            .await;
        stream.next().await.unwrap();
        let replica = (0..2).find(|replica| before[*replica] < models[*replica].requests().len());
        (stream, replica.unwrap())
    };
    // The second conversation finds the first one's replica busy.
    let (first_stream, first) = ask("salt", 1).await;
    let (second_stream, second) = ask("moss", 1).await;
    assert_ne!(first, second);
    drop((first_stream, second_stream));
    harness.idle().await;
    for turns in [3, 5, 7, 9] {
        for (topic, replica) in [("salt", first), ("moss", second)] {
            let (stream, picked) = ask(topic, turns).await;
            assert_eq!(picked, replica, "turn {turns} about {topic}");
            drop(stream);
            harness.idle().await;
        }
        // A snapshot in between forgets nothing.
        harness.apply(vec![both.clone()], vec![key("a")]);
    }
    let metrics = harness.get("/metrics", None).await.text_body();
    let observed = r#"gateway_prefix_hit_ratio_count{route="ns/m"} 10"#;
    assert!(metrics.contains(observed), "{metrics}");
    let timed = r#"gateway_prefix_decision_seconds_count{route="ns/m"} 10"#;
    assert!(metrics.contains(timed), "{metrics}");
}
