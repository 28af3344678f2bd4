//! Bodies as kubectl writes them, encoded with descriptors that the product does not use.

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::*;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let descriptors = include_bytes!("../../../testdata/kubernetes.fds");
    DescriptorPool::decode(descriptors.as_slice()).unwrap()
});

/// Every field of our table, under the number that the descriptors give it.
#[test]
fn the_table_agrees_with_the_descriptors() {
    let (mut compared, mut younger, mut faults) = (0, 0, Vec::new());
    for message in POOL.all_messages() {
        let lower = format!("io.{}", message.full_name()).to_lowercase();
        let lower = lower
            .replace("io.k8s.io.", "io.k8s.")
            .replace("apiextensions_apiserver", "apiextensions-apiserver");
        let Some((name, rows)) = MESSAGES
            .iter()
            .find(|(name, _)| name.to_lowercase() == lower)
        else {
            continue;
        };
        for field in message.fields() {
            let Some(row) = rows.iter().find(|row| row.0 == field.number()) else {
                // The descriptors know a few fields that are younger than the table.
                younger += 1;
                continue;
            };
            compared += 1;
            if !row.1.eq_ignore_ascii_case(field.name()) {
                faults.push(format!("{name}.{} is called {}", field.name(), row.1));
            }
            let wire = match field.kind() {
                Kind::String => 's',
                Kind::Bytes => 'b',
                Kind::Bool => 'o',
                Kind::Double => 'd',
                Kind::Message(_) => 'm',
                _ => 'i',
            };
            if !field.is_map() && row.2 != wire {
                faults.push(format!("{name}.{} is of type {}", field.name(), row.2));
            }
        }
    }
    assert!(compared > 1500, "only {compared} fields compared");
    assert!(younger < 10, "{younger} fields are missing");
    assert_eq!(faults, Vec::<String>::new());
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

fn length_delimited(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | 2), out);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

/// One field of a message, by its descriptor.
fn encode_field(field: &FieldDescriptor, value: &Value, out: &mut Vec<u8>) {
    let number = field.number();
    match (field.kind(), value) {
        (Kind::Message(entry), Value::Object(fields)) if field.is_map() => {
            for (key, value) in fields {
                let mut bytes = Vec::new();
                encode_field(&entry.map_entry_key_field(), &json!(key), &mut bytes);
                encode_field(&entry.map_entry_value_field(), value, &mut bytes);
                length_delimited(number, &bytes, out);
            }
        }
        (_, Value::Array(items)) => items.iter().for_each(|item| encode_field(field, item, out)),
        (Kind::Message(message), value) => {
            length_delimited(number, &encode_message(&message, value), out);
        }
        (Kind::Bytes, Value::String(text)) => {
            length_delimited(number, &STANDARD.decode(text).unwrap(), out);
        }
        (_, Value::String(text)) => length_delimited(number, text.as_bytes(), out),
        (_, Value::Bool(is_set)) => {
            varint(u64::from(number << 3), out);
            varint(u64::from(*is_set), out);
        }
        (_, value) => {
            varint(u64::from(number << 3), out);
            varint(value.as_i64().unwrap().cast_unsigned(), out);
        }
    }
}

fn encode_message(message: &MessageDescriptor, body: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in body.as_object().unwrap() {
        encode_field(&message.get_field_by_name(name).unwrap(), value, &mut out);
    }
    out
}

fn encode(message: &str, api_version: &str, kind: &str, body: &Value) -> Vec<u8> {
    let build =
        |name: &str, body: &Value| encode_message(&POOL.get_message_by_name(name).unwrap(), body);
    let raw = STANDARD.encode(build(message, body));
    let envelope = json!({"typeMeta": {"apiVersion": api_version, "kind": kind}, "raw": raw});
    let mut out = MAGIC.to_vec();
    out.extend(build("k8s.io.apimachinery.pkg.runtime.Unknown", &envelope));
    out
}

#[test]
fn a_secret_decodes_to_base64_and_without_zeros() {
    let body = encode(
        "k8s.io.api.core.v1.Secret",
        "v1",
        "Secret",
        &json!({"metadata": {"name": "s", "namespace": "", "creationTimestamp": {}, "labels": {"owner": "helm"}},
            "data": {"k": "dmFsdWU="}, "type": "Opaque", "immutable": false}),
    );
    assert_eq!(
        decode(&body).unwrap(),
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s", "labels": {"owner": "helm"}},
            "data": {"k": "dmFsdWU="}, "type": "Opaque", "immutable": false})
    );
}

#[test]
fn a_deployment_decodes_with_its_special_messages() {
    let body = encode(
        "k8s.io.api.apps.v1.Deployment",
        "apps/v1",
        "Deployment",
        &json!({"metadata": {"name": "d", "creationTimestamp": {"seconds": 1_767_225_600}},
            "spec": {"replicas": 0, "strategy": {}, "template": {"metadata": {"creationTimestamp": {}}, "spec": {
                "volumes": [{"name": "v", "volumeSource": {"emptyDir": {}}}],
                "containers": [{"name": "c", "stdin": false, "resources": {"limits": {"cpu": {"string": "1"}}},
                    "livenessProbe": {"handler": {"httpGet": {"path": "/", "port": {"type": 1, "strVal": "http"}}}},
                    "readinessProbe": {"handler": {"tcpSocket": {"port": {"type": 0, "intVal": 80}}}}}]}}},
            "status": {"replicas": 0}}),
    );
    assert_eq!(
        decode(&body).unwrap(),
        json!({"kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {"name": "d", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 0, "template": {"spec": {
                "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
                    "readinessProbe": {"tcpSocket": {"port": 80}}}]}}}})
    );
}

#[test]
fn options_belong_to_every_group() {
    let body = encode(
        "k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        "v1",
        "DeleteOptions",
        &json!({"propagationPolicy": "Background", "gracePeriodSeconds": 0}),
    );
    assert_eq!(
        decode(&body).unwrap(),
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "gracePeriodSeconds": 0})
    );
}

#[test]
fn broken_bodies_are_refused() {
    for body in [
        &b""[..],
        b"x",
        b"k8s\0",
        b"k8s\0\x0a\xff",
        b"k8s\0\x0a\x08\x0a\x02v1\x12\x02No",
    ] {
        assert_eq!(decode(body).unwrap_err().code, 400);
    }
}

proptest::proptest! {
    #[test]
    fn no_body_makes_it_panic(bytes: Vec<u8>) {
        let mut body = encode("k8s.io.api.core.v1.Pod", "v1", "Pod", &json!({}));
        body.extend(bytes);
        drop(decode(&body));
    }
}
