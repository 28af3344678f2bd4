//! An agent's card as clients of the gateway see it: its addresses are ours, and so is what it takes to be let in. Pure.

use http::Uri;
use serde_json::{Map, Value, json};

use super::agents::Agent;

/// The one binding that the gateway speaks.
const BINDING: &str = "JSONRPC";
/// The name of the security scheme of the gateway's keys.
const SCHEME: &str = "gatewayKey";

/// A card, and where its interfaces are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Card {
    /// The card as clients see it.
    pub(super) shown: Value,
    /// The addresses that stand behind ours, in their order.
    pub(super) interfaces: Vec<Uri>,
}

/// How clients reach the agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Door<'a> {
    /// The URL of the agent at the gateway.
    pub(super) url: &'a str,
    /// Whether anybody may come without a key.
    pub(super) is_open: bool,
}

/// Rewrites a card; nothing if it has no interface that the gateway can pass requests to.
pub(super) fn rewrite(agent: &Agent, card: &str, door: Door<'_>) -> Option<Card> {
    let Ok(Value::Object(mut card)) = serde_json::from_str(card) else {
        return None;
    };
    let mut interfaces = Vec::new();
    let mut ours = |url: &Value| {
        let uri: Uri = url.as_str()?.parse().ok()?;
        if !agent.is_own(&uri) {
            return None;
        }
        let place = interfaces.iter().position(|known| *known == uri);
        let place = place.unwrap_or_else(|| {
            interfaces.push(uri);
            interfaces.len() - 1
        });
        Some(match place {
            0 => door.url.to_owned(),
            place => format!("{}/interfaces/{place}", door.url),
        })
    };
    let is_current = card.contains_key("supportedInterfaces");
    if is_current {
        rewrite_list(
            &mut card,
            ("supportedInterfaces", "protocolBinding"),
            &mut ours,
        );
    } else {
        let preferred = card.get("preferredTransport").and_then(Value::as_str);
        let main = match preferred {
            None | Some(BINDING) => card.get("url").and_then(&mut ours),
            Some(_) => None,
        };
        rewrite_list(&mut card, ("additionalInterfaces", "transport"), &mut ours);
        // A card without JSON-RPC at its main address has it at another.
        let main = main.or_else(|| {
            let others = card.get("additionalInterfaces")?.as_array()?;
            Some(others.first()?.get("url")?.as_str()?.to_owned())
        });
        card.insert("url".to_owned(), main?.into());
        card.insert("preferredTransport".to_owned(), BINDING.into());
    }
    secure(&mut card, is_current, door.is_open);
    // It was of what the agent said, not of what the gateway says.
    card.remove("signatures");
    (!interfaces.is_empty()).then_some(Card {
        shown: Value::Object(card),
        interfaces,
    })
}

/// Leaves the interfaces that requests can be passed to, at our addresses.
fn rewrite_list(
    card: &mut Map<String, Value>,
    (list, binding): (&str, &str),
    ours: &mut impl FnMut(&Value) -> Option<String>,
) {
    let Some(Value::Array(interfaces)) = card.get_mut(list) else {
        return;
    };
    interfaces.retain_mut(|interface| {
        if interface.get(binding).and_then(Value::as_str) != Some(BINDING) {
            return false;
        }
        let url = interface.get("url").and_then(&mut *ours);
        match (url, interface.as_object_mut()) {
            (Some(url), Some(interface)) => {
                interface.insert("url".to_owned(), url.into());
                true
            }
            _ => false,
        }
    });
}

/// Says that the gateway's key is what it takes, or nothing.
fn secure(card: &mut Map<String, Value>, is_current: bool, is_open: bool) {
    for field in ["securitySchemes", "security", "securityRequirements"] {
        card.remove(field);
    }
    if let Some(Value::Array(skills)) = card.get_mut("skills") {
        for skill in skills.iter_mut().filter_map(Value::as_object_mut) {
            skill.remove("security");
            skill.remove("securityRequirements");
        }
    }
    if is_open {
        return;
    }
    let (scheme, field, wanted) = if is_current {
        let scheme = json!({"httpAuthSecurityScheme": {"scheme": "Bearer"}});
        let wanted = json!([{"schemes": {SCHEME: {"list": []}}}]);
        (scheme, "securityRequirements", wanted)
    } else {
        let scheme = json!({"type": "http", "scheme": "bearer"});
        (scheme, "security", json!([{SCHEME: []}]))
    };
    card.insert("securitySchemes".to_owned(), json!({SCHEME: scheme}));
    card.insert(field.to_owned(), wanted);
}

#[cfg(test)]
mod tests {
    use protocol::snapshot::{A2a, A2aAgent};
    use serde_json::{Value, json};

    use super::{Door, rewrite};
    use crate::a2a::agents::Agents;

    #[track_caller]
    fn check(card: &Value, is_open: bool, expected: Option<(Value, &[&str])>) {
        let agent = A2aAgent {
            name: "travel".to_owned(),
            url: "https://agents.example".to_owned(),
            timeout_millis: 1,
            ..A2aAgent::default()
        };
        let agents = vec![agent];
        let agents = Agents::compile("ns/r", &A2a { agents }).unwrap();
        let url = "http://gw/a2a/ns/r/travel";
        let door = Door { url, is_open };
        let card = rewrite(agents.get("travel").unwrap(), &card.to_string(), door);
        let found = card.map(|card| {
            let interfaces = card.interfaces.iter().map(ToString::to_string);
            (card.shown.clone(), interfaces.collect::<Vec<_>>())
        });
        let expected = expected.map(|(shown, interfaces)| {
            let interfaces = interfaces.iter().map(|url| (*url).to_owned());
            (shown, interfaces.collect())
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_card_of_today_shows_our_addresses_and_our_keys() {
        let interface = |url: &str, binding: &str| json!({"url": url, "protocolBinding": binding, "protocolVersion": "1.0"});
        let card = json!({"name": "Travel", "own": 1.5, "signatures": [{"signature": "x"}],
        "securitySchemes": {"theirs": {}}, "securityRequirements": [{"schemes": {"theirs": {"list": []}}}],
        "skills": [{"id": "s", "securityRequirements": []}],
        "supportedInterfaces": [
            interface("https://agents.example:443/rpc", "JSONRPC"),
            interface("https://agents.example/grpc", "GRPC"),
            interface("https://evil.example/rpc", "JSONRPC"),
            interface("https://agents.example/old", "JSONRPC"),
        ]});
        let interfaces = json!([
            interface("http://gw/a2a/ns/r/travel", "JSONRPC"),
            interface("http://gw/a2a/ns/r/travel/interfaces/1", "JSONRPC"),
        ]);
        let mut shown = json!({"name": "Travel", "own": 1.5, "skills": [{"id": "s"}], "supportedInterfaces": interfaces});
        let places = [
            "https://agents.example:443/rpc",
            "https://agents.example/old",
        ];
        check(&card, true, Some((shown.clone(), &places)));
        shown["securitySchemes"] =
            json!({"gatewayKey": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}});
        shown["securityRequirements"] = json!([{"schemes": {"gatewayKey": {"list": []}}}]);
        check(&card, false, Some((shown, &places)));
    }

    #[test]
    fn a_card_of_before_shows_our_address_as_its_own() {
        let security = json!({"gatewayKey": {"type": "http", "scheme": "bearer"}});
        let wanted = json!([{"gatewayKey": []}]);
        let card = json!({"url": "https://agents.example/a", "security": [{"x": []}], "protocolVersion": "0.3.0"});
        let shown = json!({"url": "http://gw/a2a/ns/r/travel", "protocolVersion": "0.3.0",
            "preferredTransport": "JSONRPC", "securitySchemes": security, "security": wanted});
        check(
            &card,
            false,
            Some((shown.clone(), &["https://agents.example/a"])),
        );
        let card = json!({"url": "https://agents.example/grpc", "preferredTransport": "GRPC", "protocolVersion": "0.3.0",
            "additionalInterfaces": [{"url": "https://agents.example/a", "transport": "JSONRPC"}]});
        let mut shown = shown;
        shown["additionalInterfaces"] =
            json!([{"url": "http://gw/a2a/ns/r/travel", "transport": "JSONRPC"}]);
        check(&card, false, Some((shown, &["https://agents.example/a"])));
    }

    #[test]
    fn a_card_that_leads_elsewhere_is_no_card() {
        check(&json!({"url": "http://agents.example/a"}), false, None);
        check(
            &json!({"url": "https://agents.example:8443/a"}),
            false,
            None,
        );
        check(&json!({"url": 7}), false, None);
        check(&json!([]), false, None);
        check(&json!({"supportedInterfaces": []}), false, None);
    }
}
