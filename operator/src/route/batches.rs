//! Who runs the lines of batches: the gateway, or a provider that has batches of its own.

use crds::{
    condition::Reason,
    route::{self, Backend},
};
use protocol::{provider::Provider, snapshot::Batches};

use super::validate::ValidBackend;

/// Who runs the lines of batches of a backend.
///
/// # Errors
/// Its provider should, and has no batches that the gateway knows.
pub(super) fn batches(
    index: usize,
    backend: &Backend,
    engine: &ValidBackend,
) -> Result<Batches, (Reason, String)> {
    match backend.batches {
        None | Some(route::Batches::Gateway) => Ok(Batches::Gateway),
        Some(route::Batches::Provider) => {
            let provider = engine.provider.as_ref().map(|engine| &engine.provider);
            match provider {
                Some(Provider::OpenAI | Provider::AzureOpenAI { .. }) if engine.pool.is_none() => {
                    Ok(Batches::Provider)
                }
                _ => {
                    let message = format!(
                        "spec.targets.backends[{index}].batches is Provider, which only External Models of the providers OpenAI and AzureOpenAI have; remove it"
                    );
                    Err((Reason::Invalid, message))
                }
            }
        }
    }
}
