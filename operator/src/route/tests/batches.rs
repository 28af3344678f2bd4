//! Who runs the lines of batches.

use protocol::snapshot::Batches;
use serde_json::json;

use super::{route, world};
use crate::route::{
    build::{build, in_order},
    validate::validate,
};

#[test]
fn a_provider_runs_lines_of_batches_where_it_can() {
    let of = |model: &str| {
        let backend = json!({"name": "b", "modelRef": {"name": model}, "batches": "Provider"});
        let route = route(
            "r",
            1,
            &["chat"],
            &json!({"targets": {"backends": [backend]}}),
        );
        let valid = validate(&route, &world()).expect("valid");
        let unresolved = valid.unresolved.clone();
        let entries = in_order(build(&valid));
        let targets = entries.iter().flat_map(|entry| &entry.targets);
        let batches: Vec<_> = targets.map(|target| target.batches).collect();
        (batches, unresolved)
    };
    assert_eq!(of("x"), (vec![Batches::Provider], Vec::new()));
    let (batches, unresolved) = of("m");
    assert!(batches.is_empty(), "{batches:?}");
    assert!(
        unresolved[0].1.contains("backends[0].batches"),
        "{unresolved:?}"
    );
}
