//! Rules of guards that ask a service.

use serde_json::json;

use super::check;

#[test]
fn a_webhook_says_whom_it_asks_and_leaves_the_rest_to_the_service() {
    let guarded = |guard| {
        json!({"match": {"models": ["a"]}, "targets": {"backends": [{"name": "b", "modelRef": {"name": "m"}}]},
            "guards": [guard]})
    };
    let webhook = json!({"url": "https://guard.example/judge"});
    let plain = json!({"name": "g", "type": "Webhook", "webhook": webhook});
    check("Route", &guarded(plain), None);
    let bare = json!({"name": "g", "type": "Webhook"});
    check(
        "Route",
        &guarded(bare),
        Some("webhook goes with type Webhook"),
    );
    let other = json!({"name": "g", "type": "Secrets", "webhook": webhook});
    check(
        "Route",
        &guarded(other),
        Some("webhook goes with type Webhook"),
    );
    let acting = json!({"name": "g", "type": "Webhook", "webhook": webhook, "action": "Mask"});
    check("Route", &guarded(acting), Some("says itself what happens"));
    let hidden = json!({"url": "https://user:password@guard.example"});
    let hidden = json!({"name": "g", "type": "Webhook", "webhook": hidden});
    check("Route", &guarded(hidden), Some("without password"));
}
