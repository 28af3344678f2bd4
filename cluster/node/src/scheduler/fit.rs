//! Whether a Pod fits on the node: resources, labels, taints. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};

use crate::quantity::milli;

/// Resources by name, in thousandths.
pub(crate) type Resources = BTreeMap<String, i128>;

/// What of a node is free, and who may use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeRoom {
    name: String,
    free: Resources,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    is_cordoned: bool,
}

impl NodeRoom {
    pub(crate) fn of(node: &Node) -> Self {
        let allocatable = node
            .status
            .as_ref()
            .and_then(|status| status.allocatable.clone())
            .unwrap_or_default();
        let spec = node.spec.clone().unwrap_or_default();
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            free: allocatable
                .iter()
                .filter_map(|(name, quantity)| Some((name.clone(), milli(&quantity.0)?)))
                .collect(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            is_cordoned: spec.unschedulable == Some(true),
        }
    }

    pub(crate) fn take(&mut self, used: &Resources) {
        for (name, amount) in used {
            if let Some(free) = self.free.get_mut(name) {
                *free -= amount;
            }
        }
    }
}

/// What a Pod asks for: its containers together, or its largest init container, and one place.
pub(crate) fn requests(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::new();
    };
    let mut total = Resources::new();
    for container in &spec.containers {
        add(&mut total, &of_container(container));
    }
    let mut sidecars = Resources::new();
    let mut largest = Resources::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &own);
            continue;
        }
        let mut with_sidecars = sidecars.clone();
        add(&mut with_sidecars, &own);
        for (name, amount) in with_sidecars {
            let most = largest.entry(name).or_default();
            *most = amount.max(*most);
        }
    }
    add(&mut total, &sidecars);
    for (name, amount) in largest {
        let most = total.entry(name).or_default();
        *most = amount.max(*most);
    }
    total.insert("pods".to_owned(), 1000);
    total
}

/// Why a Pod does not fit; `None` if it does.
pub(crate) fn misfit(pod: &Pod, room: &NodeRoom) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if room.is_cordoned {
        return Some("node(s) were unschedulable".to_owned());
    }
    let bars = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    let barrier = room
        .taints
        .iter()
        .filter(bars)
        .find(|taint| !tolerations.iter().any(|it| tolerates(it, taint)));
    if let Some(taint) = barrier {
        let value = taint.value.as_deref().unwrap_or_default();
        return Some(format!(
            "node(s) had untolerated taint {{{}: {value}}}",
            taint.key
        ));
    }
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| room.labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = required.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let has_affinity = required.is_none_or(|selector| {
        selector
            .node_selector_terms
            .iter()
            .any(|term| matches(term, room))
    });
    if !selected || !has_affinity {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let wanted = requests(pod);
    let short: Vec<String> = wanted
        .iter()
        .filter(|(name, amount)| {
            **amount > 0 && room.free.get(*name).copied().unwrap_or(0) < **amount
        })
        .map(|(name, _)| {
            if name == "pods" {
                "Too many pods".to_owned()
            } else {
                format!("Insufficient {name}")
            }
        })
        .collect();
    (!short.is_empty()).then(|| short.join(", "))
}

fn of_container(container: &Container) -> Resources {
    let resources = container.resources.clone().unwrap_or_default();
    let mut wanted = resources.limits.unwrap_or_default();
    wanted.extend(resources.requests.unwrap_or_default());
    wanted
        .iter()
        .filter_map(|(name, quantity)| Some((name.clone(), milli(&quantity.0)?)))
        .collect()
}

fn add(total: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        *total.entry(name.clone()).or_default() += amount;
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration
        .effect
        .as_deref()
        .is_none_or(|effect| effect.is_empty() || effect == taint.effect);
    let key = toleration.key.as_deref().unwrap_or_default();
    let is_exists = toleration.operator.as_deref() == Some("Exists");
    let key_fits = if key.is_empty() {
        is_exists
    } else {
        key == taint.key
    };
    let value_fits = is_exists
        || toleration.value.as_deref().unwrap_or_default()
            == taint.value.as_deref().unwrap_or_default();
    effect && key_fits && value_fits
}

fn matches(term: &NodeSelectorTerm, room: &NodeRoom) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    labels
        .iter()
        .all(|rule| holds(rule, room.labels.get(&rule.key)))
        && fields
            .iter()
            .all(|rule| holds(rule, (rule.key == "metadata.name").then_some(&room.name)))
}

fn holds(rule: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = rule.values.as_deref().unwrap_or_default();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    match rule.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value)
            .zip(number(values.first()))
            .is_some_and(|(have, want)| have > want),
        "Lt" => number(value)
            .zip(number(values.first()))
            .is_some_and(|(have, want)| have < want),
        _ => false,
    }
}

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "rows of a table read best as values"
)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(spec: Value, expected: Option<&str>) {
        let mut node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}}
        }))
        .unwrap();
        if spec.get("tolerations").is_none() {
            node.spec = None;
        }
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        assert_eq!(misfit(&pod, &NodeRoom::of(&node)).as_deref(), expected);
    }

    fn cpu(amount: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": amount}}})
    }

    #[test]
    fn a_pod_fits_if_every_demand_is_met() {
        check(json!({"containers": [cpu("1"), cpu("1")]}), None);
        check(
            json!({"containers": [cpu("1"), cpu("1100m")]}),
            Some("Insufficient cpu"),
        );
        check(
            json!({"containers": [cpu("1")], "initContainers": [cpu("2")]}),
            None,
        );
        check(
            json!({"containers": [cpu("1")], "initContainers": [cpu("2100m")]}),
            Some("Insufficient cpu"),
        );
        check(
            json!({"containers": [cpu("1")], "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1500m"}}}]}),
            Some("Insufficient cpu"),
        );
        check(
            json!({"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}),
            Some("Insufficient nvidia.com/gpu"),
        );
        check(
            json!({"containers": [cpu("1")], "nodeSelector": {"disk": "ssd"}}),
            None,
        );
        check(
            json!({"containers": [cpu("1")], "nodeSelector": {"disk": "hdd"}}),
            Some("node(s) didn't match Pod's node affinity/selector"),
        );
        check(
            json!({"containers": [cpu("1")], "tolerations": [{"key": "gpu", "operator": "Exists"}]}),
            None,
        );
        check(
            json!({"containers": [cpu("1")], "tolerations": [{"key": "gpu", "value": "no"}]}),
            Some("node(s) had untolerated taint {gpu: yes}"),
        );
        check(
            json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["ssd"]}]}]}}}}),
            Some("node(s) didn't match Pod's node affinity/selector"),
        );
    }
}
