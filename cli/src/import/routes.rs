//! Models and Routes: one Model for each deployment, one Route for each name.

use serde_json::{Map, Value, json};

use super::{deployment::Deployment, object_name, settings::Settings, unique};

/// The API of our resources.
const API_VERSION: &str = "quarterdeck.dev/v1alpha1";
/// A time that a deployment may say.
type Said = fn(&Deployment) -> &Option<String>;

/// Backends of a Route.
const BACKENDS_MAX: usize = 16;
/// The weight of the deployment with the highest rate, where rates say how requests are shared.
const WEIGHT_MAX: u64 = 1000;

/// The manifests: Models first, since Routes name them.
pub(super) fn manifests(
    deployments: &[Deployment],
    settings: &Settings,
    namespace: &str,
    warnings: &mut Vec<String>,
) -> Vec<Value> {
    let mut groups: Vec<(&str, Vec<&Deployment>)> = Vec::new();
    for deployment in deployments {
        match groups.iter_mut().find(|(name, _)| *name == deployment.name) {
            Some((_, group)) => group.push(deployment),
            None => groups.push((&deployment.name, vec![deployment])),
        }
    }
    let (mut models, mut routes) = (Vec::new(), Vec::new());
    let (mut taken, mut route_names) = (Vec::new(), Vec::new());
    for (name, group) in &groups {
        if BACKENDS_MAX < group.len() {
            warnings.push(format!(
                "`{name}` has {} deployments; a Route has {BACKENDS_MAX} backends at most",
                group.len()
            ));
        }
        let mut backends = Vec::new();
        let weights = weights(group);
        for (index, deployment) in group.iter().take(BACKENDS_MAX).enumerate() {
            let plain = object_name(name);
            let numbered = match group.len() {
                1 => plain,
                _ => format!("{plain}-{}", index + 1),
            };
            let model = unique(numbered, &taken);
            taken.push(model.clone());
            let weight = weights.get(index).copied().flatten();
            backends.push(backend(index, &model, deployment, weight));
            models.push(object(
                "Model",
                &model,
                namespace,
                &json!({
                    "engine": {"type": "External", "external": deployment.external},
                }),
            ));
        }
        let route = unique(object_name(name), &route_names);
        route_names.push(route.clone());
        let spec = spec(name, group, &backends, settings, warnings);
        routes.push(object("Route", &route, namespace, &spec));
    }
    for (alias, model) in &settings.aliases {
        if !groups.iter().any(|(name, _)| name == model) {
            warnings.push(format!(
                "model_group_alias `{alias}` names `{model}`, which is not in model_list"
            ));
        }
    }
    for (_, model, _) in &settings.fallbacks {
        if !groups.iter().any(|(name, _)| name == model) && model != "*" {
            warnings.push(format!(
                "fallbacks of `{model}` are left out; it is not in model_list"
            ));
        }
    }
    models.extend(routes);
    models
}

fn object(kind: &str, name: &str, namespace: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})
}

/// The shares of the deployments of a name: their weights, or else their rates of requests or of tokens, as in LiteLLM.
fn weights(group: &[&Deployment]) -> Vec<Option<u64>> {
    let said: Vec<_> = group.iter().map(|deployment| deployment.weight).collect();
    if group.len() < 2 || said.iter().any(Option::is_some) {
        return said;
    }
    let rates = ["requests", "tokens"].iter().find_map(|field| {
        let rate = |deployment: &&Deployment| {
            deployment
                .limits
                .as_ref()?
                .get(*field)?
                .get("limit")?
                .as_u64()
        };
        group.iter().map(rate).collect::<Option<Vec<u64>>>()
    });
    let Some(rates) = rates else { return said };
    let most = rates.iter().max().copied().unwrap_or(1).max(1);
    let share = |rate: u64| (u128::from(rate) * u128::from(WEIGHT_MAX)).div_ceil(u128::from(most));
    let shares = rates
        .into_iter()
        .map(|rate| u64::try_from(share(rate)).ok());
    shares.collect()
}

fn backend(index: usize, model: &str, deployment: &Deployment, weight: Option<u64>) -> Value {
    let mut backend = Map::new();
    backend.insert("name".to_owned(), json!(format!("b{}", index + 1)));
    backend.insert("modelRef".to_owned(), json!({"name": model}));
    let model = deployment.model_override.as_ref();
    let model = model.map(|model| ("modelOverride".to_owned(), json!(model)));
    let limits = deployment.limits.clone();
    let limits = limits.map(|limits| ("limits".to_owned(), limits));
    let weight = weight.map(|weight| ("weight".to_owned(), json!(weight)));
    let priority = deployment
        .priority
        .map(|order| ("priority".to_owned(), json!(order)));
    let prices = deployment
        .prices
        .clone()
        .map(|prices| ("prices".to_owned(), prices));
    backend.extend(
        [model, weight, priority, prices, limits]
            .into_iter()
            .flatten(),
    );
    Value::Object(backend)
}

fn spec(
    name: &str,
    group: &[&Deployment],
    backends: &[Value],
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Value {
    let aliases = settings.aliases.iter().filter(|(_, model)| model == name);
    let mut models = vec![name.to_owned()];
    models.extend(aliases.map(|(alias, _)| alias.clone()));
    let is_ordered = group.iter().any(|deployment| deployment.priority.is_some());
    let strategy = match is_ordered {
        true => "Failover",
        false => settings.strategy.unwrap_or("Weighted"),
    };
    let mut spec = Map::new();
    spec.insert("match".to_owned(), json!({"models": models}));
    spec.insert(
        "targets".to_owned(),
        json!({"strategy": strategy, "backends": backends}),
    );
    let mut retries = Map::new();
    retries.extend(
        settings
            .retries
            .map(|attempts| ("attempts".to_owned(), json!(attempts.min(10)))),
    );
    retries.extend(
        settings
            .backoff
            .as_ref()
            .map(|backoff| ("backoff".to_owned(), json!(backoff))),
    );
    if !retries.is_empty() {
        spec.insert("retries".to_owned(), Value::Object(retries));
    }
    let mut timeouts = Map::new();
    let times: [(&str, Said, &Option<String>); 2] = [
        (
            "request",
            |deployment| &deployment.timeout,
            &settings.timeout,
        ),
        (
            "firstToken",
            |deployment| &deployment.first_token,
            &settings.first_token,
        ),
    ];
    for (field, said, default) in times {
        let mut own: Vec<&String> = group
            .iter()
            .filter_map(|deployment| said(deployment).as_ref())
            .collect();
        own.dedup();
        if 1 < own.len() {
            warnings.push(format!(
                "`{name}`: its deployments have different timeouts; the Route has the first one's"
            ));
        }
        let time = own.first().copied().or(default.as_ref());
        timeouts.extend(time.map(|time| (field.to_owned(), json!(time))));
    }
    if !timeouts.is_empty() {
        spec.insert("timeouts".to_owned(), Value::Object(timeouts));
    }
    let fallbacks = fallbacks(name, settings);
    if !fallbacks.is_empty() {
        spec.insert("fallbacks".to_owned(), Value::Array(fallbacks));
    }
    if let Some(cache) = &settings.cache {
        spec.insert("cache".to_owned(), Value::Object(cache.clone()));
    }
    Value::Object(spec)
}

/// What takes over for a model: the Route's other backends first, as in LiteLLM, then other models.
fn fallbacks(name: &str, settings: &Settings) -> Vec<Value> {
    let own = settings
        .fallbacks
        .iter()
        .filter(|(_, model, _)| model == name || model == "*");
    let mut fallbacks = Vec::new();
    let mut has_general = false;
    for (classes, _, others) in own {
        has_general |= classes.contains(&"Error");
        let others = others.iter().filter(|other| *other != name);
        fallbacks.extend(others.map(|model| json!({"on": classes, "model": model})));
    }
    if !has_general {
        let others = settings
            .default_fallbacks
            .iter()
            .filter(|other| *other != name);
        let general = ["Error", "Timeout", "RateLimit"];
        fallbacks.extend(others.map(|model| json!({"on": general, "model": model})));
    }
    fallbacks
}
