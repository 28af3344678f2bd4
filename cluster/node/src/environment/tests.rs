use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;

#[derive(Default)]
struct Given {
    config_maps: Vec<ConfigMap>,
    secrets: Vec<Secret>,
}

impl Sources for Given {
    fn config_map(&self, name: &str) -> Option<ConfigMap> {
        self.config_maps
            .iter()
            .find(|map| map.metadata.name.as_deref() == Some(name))
            .cloned()
    }
    fn secret(&self, name: &str) -> Option<Secret> {
        self.secrets
            .iter()
            .find(|secret| secret.metadata.name.as_deref() == Some(name))
            .cloned()
    }
}

fn given() -> Given {
    let map = serde_json::from_value(
        json!({"metadata": {"name": "settings"}, "data": {"COLOUR": "red", "SIZE": "9"}}),
    );
    let mut secret = Secret::default();
    secret.metadata.name = Some("keys".to_owned());
    secret.data = Some([("token".to_owned(), ByteString(b"s3cret".to_vec()))].into());
    Given {
        config_maps: vec![map.unwrap()],
        secrets: vec![secret],
    }
}

#[track_caller]
fn check(container: serde_json::Value, expected: Result<&[(&str, &str)], &str>) {
    let container: Container = serde_json::from_value(container).unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"tier": "front"}},
        "spec": {"nodeName": "n1", "containers": []}
    }))
    .unwrap();
    let facts = PodFacts {
        pod: &pod,
        pod_ip: [127, 88, 0, 2].into(),
        host_ip: [127, 0, 0, 1].into(),
    };
    let base = vec![("BASE".to_owned(), "b".to_owned())];
    let got = variables(&container, facts, &given(), &BTreeMap::new(), base);
    let expected = expected.map(|pairs| {
        let base = [("BASE".to_owned(), "b".to_owned())].into_iter();
        base.chain(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        )
        .collect::<Variables>()
    });
    assert_eq!(
        got.map_err(|error| error.to_string()),
        expected.map_err(ToOwned::to_owned)
    );
}

#[test]
fn variables_come_from_every_source_and_see_earlier_ones() {
    check(
        json!({"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(BASE)$(NO)$$(A)"}]}),
        Ok(&[("A", "1"), ("B", "1b$(NO)$(A)")]),
    );
    check(
        json!({"name": "c", "envFrom": [{"prefix": "X_", "configMapRef": {"name": "settings"}}]}),
        Ok(&[("X_COLOUR", "red"), ("X_SIZE", "9")]),
    );
    check(
        json!({"name": "c", "env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}]}),
        Ok(&[("T", "s3cret")]),
    );
    check(
        json!({"name": "c", "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}}]}),
        Ok(&[("IP", "127.88.0.2"), ("L", "front")]),
    );
    check(
        json!({"name": "c", "resources": {"limits": {"cpu": "1500m"}}, "env": [{"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}),
        Ok(&[("CPUS", "2")]),
    );
}

#[test]
fn a_missing_source_is_an_error_unless_it_is_optional() {
    check(
        json!({"name": "c", "envFrom": [{"secretRef": {"name": "nope"}}]}),
        Err("secret \"nope\" not found"),
    );
    check(
        json!({"name": "c", "envFrom": [{"secretRef": {"name": "nope", "optional": true}}]}),
        Ok(&[]),
    );
    check(
        json!({"name": "c", "env": [{"name": "T", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no"}}}]}),
        Err("couldn't find key no in ConfigMap settings"),
    );
    check(
        json!({"name": "c", "env": [{"name": "T", "valueFrom": {"fieldRef": {"fieldPath": "spec.bogus"}}}]}),
        Err("unsupported fieldPath: spec.bogus"),
    );
}

#[test]
fn service_links_name_host_and_ports() {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "my-db"}, "spec": {"clusterIP": "127.96.0.7", "ports": [{"name": "sql", "port": 5432}]}
    }))
    .unwrap();
    let links = service_links([service].iter());
    for expected in [
        ("MY_DB_SERVICE_HOST", "127.96.0.7"),
        ("MY_DB_SERVICE_PORT_SQL", "5432"),
        ("MY_DB_PORT_5432_TCP", "tcp://127.96.0.7:5432"),
    ] {
        assert!(
            links
                .iter()
                .any(|(k, v)| (k.as_str(), v.as_str()) == expected),
            "{expected:?} in {links:?}"
        );
    }
}
