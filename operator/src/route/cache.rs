//! A Route's cache, as the gateway takes it.

use std::time::Duration;

use crds::{condition::Reason, route};
use protocol::{
    address::{STORE_SCHEMES, host_in, is_forbidden_host},
    snapshot::{Cache, CacheStore},
};

use super::{dereference::World, limits::per, validate::InvalidRoute};
use crate::{model, quantities::duration};

/// Bytes that a gateway keeps of a route's answers if the route does not say.
const BYTES_DEFAULT: u64 = 64 << 20;
/// The longest time that a store may take.
const STORE_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// What is named and cannot be used, and why.
type Unresolved = Vec<(Reason, String)>;

/// The cache of a Route; without its store if that cannot be used.
pub(super) fn cache(
    cache: Option<&route::Cache>,
    world: &World,
    unresolved: &mut Unresolved,
) -> Result<Option<Cache>, InvalidRoute> {
    let Some(cache) = cache else { return Ok(None) };
    let store = cache.store.as_ref();
    let store = store
        .map(|settings| store_of(settings, world))
        .transpose()?;
    let store = store.and_then(|found| found.map_err(|fault| unresolved.push(fault)).ok());
    Ok(Some(Cache {
        ttl_millis: millis("spec.cache.ttl", &cache.ttl, Duration::MAX)?,
        bytes_max: cache
            .max_bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(BYTES_DEFAULT),
        per: per(cache.per),
        store,
    }))
}

/// The Secret that a Route's cache names.
pub(super) fn secret_name(spec: &route::RouteSpec) -> Option<String> {
    let store = spec.cache.as_ref()?.store.as_ref()?;
    Some(store.secret_ref.name.clone())
}

/// A store that can be used, or why it cannot.
fn store_of(
    store: &route::CacheStore,
    world: &World,
) -> Result<Result<CacheStore, (Reason, String)>, InvalidRoute> {
    let path = "spec.cache.store.timeout";
    let timeout = store.timeout.as_deref();
    let timeout = timeout.map(|timeout| millis(path, timeout, STORE_TIMEOUT_MAX));
    let timeout_millis = timeout.transpose()?;
    let path = "spec.cache.store.secretRef";
    let url = match model::credential(&store.secret_ref, path, &world.secrets) {
        Ok(url) => url,
        Err(fault) => return Ok(Err((fault.reason(), fault.to_string()))),
    };
    // What the Secret holds is not told: it may be a password.
    let fault = match host_in(url.expose(), &STORE_SCHEMES) {
        None => "holds no URL of a Redis, as redis://USER:PASSWORD@HOST:6379/0",
        Some(host) if is_forbidden_host(host) => "holds a URL that no request may go to",
        Some(_) => {
            return Ok(Ok(CacheStore {
                url,
                timeout_millis: timeout_millis.unwrap_or_else(CacheStore::timeout_default),
            }));
        }
    };
    let message = format!("{path} names a Secret that {fault}");
    Ok(Err((Reason::Invalid, message)))
}

fn millis(path: &str, text: &str, most: Duration) -> Result<u64, InvalidRoute> {
    let given = duration(text).filter(|given| !given.is_zero() && *given <= most);
    let millis = given.and_then(|given| u64::try_from(given.as_millis()).ok());
    millis.ok_or_else(|| InvalidRoute::Window {
        path: path.to_owned(),
        value: text.to_owned(),
    })
}
