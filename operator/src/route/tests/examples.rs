//! The examples of the documentation.

use std::collections::BTreeMap;

use crds::Route;
use k8s_openapi::api::core::v1::ConfigMap;

use super::with_redis;
use crate::route::{build::build, dereference::World, validate::validate};

/// Checks the examples of a page: Routes to the Models `chat` and `cloud`, with the ConfigMaps that the page shows.
#[track_caller]
fn check_example(page: &str) {
    let blocks = page.split("```yaml\n").skip(1);
    let blocks: Vec<&str> = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    let of_kind = |kind: &'static str| {
        let line = format!("kind: {kind}\n");
        blocks.iter().filter(move |block| block.contains(&line))
    };
    let config_maps = of_kind("ConfigMap").map(|block| {
        let found: ConfigMap = serde_norway::from_str(block).expect("a ConfigMap");
        (found.metadata.name.expect("a name"), found.data)
    });
    let config_maps: BTreeMap<_, _> = config_maps.collect();
    assert!(of_kind("Route").next().is_some());
    for example in of_kind("Route") {
        let mut route: Route = serde_norway::from_str(example).expect("a route");
        route.metadata.uid = Some("u".to_owned());
        let mut world = World {
            config_maps: config_maps.clone(),
            ..with_redis("redis://r")
        };
        let secret = BTreeMap::from([("hmac".to_owned(), "s3cret".repeat(8))]);
        world.secrets.insert("guard".to_owned(), Some(secret));
        let model = world.models.remove("m").expect("a model");
        world.models.insert("chat".to_owned(), model);
        let external = world.models.remove("x").expect("a model");
        world.models.insert("cloud".to_owned(), external);
        let valid = validate(&route, &world).expect("valid");
        assert_eq!((build(&valid).len(), &valid.unresolved), (1, &Vec::new()));
    }
}

#[test]
fn the_examples_in_the_documentation_are_valid() {
    check_example(include_str!(
        "../../../../docs/concepts/gateway-adapters.md"
    ));
    check_example(include_str!("../../../../docs/concepts/gateway-cache.md"));
    check_example(include_str!("../../../../docs/concepts/gateway-guards.md"));
    check_example(include_str!(
        "../../../../docs/concepts/gateway-kv-events.md"
    ));
    check_example(include_str!(
        "../../../../docs/concepts/gateway-inference-pools.md"
    ));
    check_example(include_str!("../../../../docs/concepts/gateway-limits.md"));
    check_example(include_str!("../../../../docs/concepts/gateway-mirror.md"));
    check_example(include_str!("../../../../docs/concepts/gateway-prompts.md"));
}
