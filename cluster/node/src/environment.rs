//! The environment and arguments of a container: sources, Service links and `$(VAR)` expansion. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Secret, Service};

use crate::fields::{PodFacts, field_value, resource_value};

/// What a variable could not be read from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvironmentError {
    #[error("{kind} \"{name}\" not found")]
    NoSource { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {name}")]
    NoKey {
        kind: &'static str,
        name: String,
        key: String,
    },
    #[error("unsupported fieldPath: {0}")]
    UnsupportedField(String),
}

/// The objects a container's environment may be read from, all of the Pod's namespace.
pub(crate) trait Sources {
    fn config_map(&self, name: &str) -> Option<ConfigMap>;
    fn secret(&self, name: &str) -> Option<Secret>;
}

/// Variables in order; a later one of the same name wins.
pub(crate) type Variables = Vec<(String, String)>;

/// Builds a container's variables on top of `base`.
pub(crate) fn variables(
    container: &Container,
    facts: PodFacts<'_>,
    sources: &dyn Sources,
    capacity: &BTreeMap<String, String>,
    base: Variables,
) -> Result<Variables, EnvironmentError> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut set = |known: &mut BTreeMap<String, String>, name: String, value: String| {
        if known.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for (name, value) in base {
        set(&mut known, name, value);
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        let pairs = if let Some(reference) = &source.config_map_ref {
            config_map_pairs(sources, &reference.name, reference.optional == Some(true))?
        } else if let Some(reference) = &source.secret_ref {
            secret_pairs(sources, &reference.name, reference.optional == Some(true))?
        } else {
            Vec::new()
        };
        for (name, value) in pairs {
            set(&mut known, format!("{prefix}{name}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(from) => value_from(container, from, facts, sources, capacity)?,
            None => Some(expand(
                variable.value.as_deref().unwrap_or_default(),
                &known,
            )),
        };
        if let Some(value) = value {
            set(&mut known, variable.name.clone(), value);
        }
    }
    Ok(order
        .into_iter()
        .filter_map(|name| known.get(&name).map(|value| (name.clone(), value.clone())))
        .collect())
}

/// Replaces `$(NAME)` by known variables; `$$` is a dollar sign and an unknown name stays as it is.
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let after = &tail[1..];
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, remainder)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = remainder;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The variables by which a container finds `services`.
pub(crate) fn service_links<'a>(services: impl Iterator<Item = &'a Service>) -> Variables {
    let mut links = Variables::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec
            .cluster_ip
            .as_deref()
            .filter(|ip| !ip.is_empty() && *ip != "None")
        else {
            continue;
        };
        let prefix = variable_name(service.metadata.name.as_deref().unwrap_or_default());
        let ports: Vec<_> = spec.ports.iter().flatten().collect();
        let Some(first) = ports.first() else { continue };
        links.push((format!("{prefix}_SERVICE_HOST"), ip.to_owned()));
        links.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
        for port in &ports {
            if let Some(name) = &port.name {
                links.push((
                    format!("{prefix}_SERVICE_PORT_{}", variable_name(name)),
                    port.port.to_string(),
                ));
            }
        }
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{ip}:{}", protocol.to_lowercase(), port.port);
            if index == 0 {
                links.push((format!("{prefix}_PORT"), url.clone()));
            }
            let of_port = format!("{prefix}_PORT_{}_{protocol}", port.port);
            links.push((of_port.clone(), url));
            links.push((format!("{of_port}_PROTO"), protocol.to_lowercase()));
            links.push((format!("{of_port}_PORT"), port.port.to_string()));
            links.push((format!("{of_port}_ADDR"), ip.to_owned()));
        }
    }
    links
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

fn value_from(
    container: &Container,
    from: &EnvVarSource,
    facts: PodFacts<'_>,
    sources: &dyn Sources,
    capacity: &BTreeMap<String, String>,
) -> Result<Option<String>, EnvironmentError> {
    if let Some(field) = &from.field_ref {
        let value = field_value(facts, &field.field_path);
        return value
            .map(Some)
            .ok_or_else(|| EnvironmentError::UnsupportedField(field.field_path.clone()));
    }
    if let Some(resource) = &from.resource_field_ref {
        let value = resource_value(container, resource, capacity);
        return value
            .map(Some)
            .ok_or_else(|| EnvironmentError::UnsupportedField(resource.resource.clone()));
    }
    if let Some(reference) = &from.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let pairs = config_map_pairs(sources, &reference.name, optional)?;
        return pick(
            pairs,
            "ConfigMap",
            &reference.name,
            &reference.key,
            optional,
        );
    }
    if let Some(reference) = &from.secret_key_ref {
        let optional = reference.optional == Some(true);
        let pairs = secret_pairs(sources, &reference.name, optional)?;
        return pick(pairs, "Secret", &reference.name, &reference.key, optional);
    }
    Ok(Some(String::new()))
}

fn pick(
    pairs: Variables,
    kind: &'static str,
    name: &str,
    key: &str,
    optional: bool,
) -> Result<Option<String>, EnvironmentError> {
    match pairs.into_iter().find(|(candidate, _)| candidate == key) {
        Some((_, value)) => Ok(Some(value)),
        None if optional => Ok(None),
        None => Err(EnvironmentError::NoKey {
            kind,
            name: name.to_owned(),
            key: key.to_owned(),
        }),
    }
}

fn config_map_pairs(
    sources: &dyn Sources,
    name: &str,
    optional: bool,
) -> Result<Variables, EnvironmentError> {
    match sources.config_map(name) {
        Some(map) => Ok(map.data.unwrap_or_default().into_iter().collect()),
        None if optional => Ok(Vec::new()),
        None => Err(EnvironmentError::NoSource {
            kind: "configmap",
            name: name.to_owned(),
        }),
    }
}

fn secret_pairs(
    sources: &dyn Sources,
    name: &str,
    optional: bool,
) -> Result<Variables, EnvironmentError> {
    match sources.secret(name) {
        Some(secret) => {
            let data = secret.data.unwrap_or_default().into_iter();
            Ok(data
                .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
                .collect())
        }
        None if optional => Ok(Vec::new()),
        None => Err(EnvironmentError::NoSource {
            kind: "secret",
            name: name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
