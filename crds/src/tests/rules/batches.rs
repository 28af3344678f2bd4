//! Who runs the lines of batches.

use serde_json::Value;

use super::check;

#[test]
fn the_examples_of_batches_in_the_documentation_are_accepted() {
    let page = include_str!("../../../../docs/concepts/gateway-batches.md");
    let blocks = page.split("```yaml\n").skip(1);
    let texts = blocks.filter_map(|block| block.split("```").next());
    let examples: Vec<Value> = texts
        .flat_map(|text| text.split("---\n"))
        .map(|example| serde_norway::from_str(example).expect("an example is YAML"))
        .collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let kind = example["kind"].as_str().expect("a kind");
        check(kind, &example["spec"], None);
    }
}
