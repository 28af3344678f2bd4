//! InferencePools as backends: the ready Pods of somebody else's selector, asked as vLLM is.

use crds::{condition::Reason, external::ExternalAdapter};
use protocol::snapshot::Adapter;

use super::{
    dereference::{FoundPool, World},
    validate::ValidBackend,
};

/// A pool that a backend of the Route names, as a backend that nothing else was said of. Its Pods answer all APIs
/// themselves and know their models by the names that clients ask for.
pub(super) fn engine(
    path: &str,
    name: &str,
    adapters: &[ExternalAdapter],
    world: &World,
) -> Result<ValidBackend, (Reason, String)> {
    let found: Option<&FoundPool> = world.pools.get(name).and_then(Option::as_ref);
    let Some(found) = found else {
        let message = format!(
            "{path} names the InferencePool `{name}`, which does not exist in this namespace"
        );
        return Err((Reason::RefNotFound, message));
    };
    found.pool.spec.check().map_err(|invalid| {
        let message =
            format!("{path} names the InferencePool `{name}`, which is not usable: {invalid}");
        (Reason::RefNotFound, message)
    })?;
    let adapters = adapters.iter().map(|adapter| Adapter {
        name: adapter.name.clone(),
        model: adapter.name.clone(),
        path: adapter.path.clone(),
    });
    Ok(ValidBackend {
        pool: Some(name.to_owned()),
        endpoints: found.endpoints.clone(),
        weight: 1,
        adapters: adapters.collect(),
        ..ValidBackend::default()
    })
}
