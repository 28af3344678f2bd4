//! Query parameters as the API server passes them, and the container they mean.

use axum::http::Uri;

use super::Refusal;
use crate::context::NodeContext;
use crate::pod::table::{ContainerDoor, PodDoor};

/// Parameters in order; a name may repeat.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(
            url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
    }

    /// A flag; given without a value it is set.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| matches!(value, "" | "1" | "true" | "True" | "TRUE"))
    }

    /// A number, or a refusal that names the parameter.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = text.parse().map_err(|_| {
            Refusal::bad_request(format!("{name}: \"{text}\" is not a whole number"))
        })?;
        Ok(Some(number))
    }
}

/// Finds a Pod that runs here.
pub(crate) fn find_pod(
    context: &NodeContext,
    namespace: &str,
    name: &str,
) -> Result<PodDoor, Refusal> {
    let door = context.table.get(namespace, name);
    door.ok_or_else(|| {
        Refusal::not_found(format!("pod {namespace}/{name} does not run on this node"))
    })
}

/// Finds a container of a Pod; `-` means its first one.
pub(crate) fn find_container(
    door: &PodDoor,
    name: &str,
) -> Result<(String, ContainerDoor), Refusal> {
    let first = door.order.first().map(String::as_str);
    let wanted = if name == "-" {
        first.unwrap_or(name)
    } else {
        name
    };
    let found = door.containers.get(wanted).cloned();
    let message = || format!("container {wanted} is not valid for pod {}", door.id.name);
    found
        .map(|container| (wanted.to_owned(), container))
        .ok_or_else(|| Refusal::bad_request(message()))
}
