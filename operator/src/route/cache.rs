//! A Route's cache, as the gateway takes it.

use crds::route;
use protocol::snapshot::Cache;

use super::{limits::per, validate::InvalidRoute};
use crate::quantities::duration;

/// Bytes that a gateway keeps of a route's answers if the route does not say.
const BYTES_DEFAULT: u64 = 64 << 20;

pub(super) fn cache(cache: Option<&route::Cache>) -> Result<Option<Cache>, InvalidRoute> {
    let Some(cache) = cache else { return Ok(None) };
    let ttl = duration(&cache.ttl).filter(|ttl| !ttl.is_zero());
    let millis = ttl.and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
    Ok(Some(Cache {
        ttl_millis: millis.ok_or_else(|| InvalidRoute::Window {
            path: "spec.cache.ttl".to_owned(),
            value: cache.ttl.clone(),
        })?,
        bytes_max: cache
            .max_bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(BYTES_DEFAULT),
        per: per(cache.per),
    }))
}
