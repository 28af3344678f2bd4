//! Shared: the second store of a cache, in a Redis that all gateways have in common.
//!
//! - Whatever is wrong with it is a miss: nobody waits beyond the store's limit, and nobody is told.
//! - Only the request that leads a flight asks; what it finds goes to those who wait as well.
//! - Answers are written behind the client's back, by one task for each Redis; what it cannot follow is left out.

mod address;
mod link;
mod value;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use protocol::snapshot::CacheStore;
use ring::digest::{SHA256, digest};

pub(crate) use self::address::InvalidStore;
use self::{address::Address, link::Link};
use super::{Form, Kept, Place};

/// The connections of all caches, by the SHA-256 of their URLs.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<HashMap<Vec<u8>, Weak<Link>>>);

/// The second store of one route's cache.
#[derive(Debug)]
pub(super) struct Shared {
    link: Arc<Link>,
    /// What the keys of the route begin with.
    prefix: String,
    timeout: Duration,
    ttl: Duration,
}

impl Links {
    /// The store of a route.
    ///
    /// # Errors
    /// Its URL is none of a Redis.
    pub(super) fn shared(
        &self,
        route: &str,
        store: &CacheStore,
        ttl: Duration,
    ) -> Result<Shared, InvalidStore> {
        let url = store.url.expose();
        let name = digest(&SHA256, url.as_bytes()).as_ref().to_vec();
        let mut links = self.0.lock();
        links.retain(|_, link| 0 < link.strong_count());
        let known = links.get(&name).and_then(Weak::upgrade);
        let link = match known {
            Some(known) => known,
            None => {
                let made = Arc::new(Link::new(Address::parse(url)?));
                links.insert(name, Arc::downgrade(&made));
                made
            }
        };
        Ok(Shared {
            link,
            prefix: format!("quarterdeck:cache:{route}:"),
            timeout: Duration::from_millis(store.timeout_millis),
            ttl,
        })
    }
}

impl Shared {
    /// The answer at a place, or the one of the other form there; asks no longer than the store may take, nor than
    /// `until`.
    pub(super) async fn get(
        &self,
        place: Place,
        bytes_max: usize,
        until: Instant,
    ) -> Option<(Form, Kept)> {
        let other = match place.form {
            Form::Whole => Form::Stream,
            Form::Stream => Form::Whole,
        };
        let forms = [place.form, other];
        let keys = forms.map(|form| self.key(Place { form, ..place }));
        let until = until.min(Instant::now() + self.timeout);
        let most = bytes_max.saturating_add(value::HEAD_BYTES_MAX);
        let found = self.link.get(&keys, most, until).await?;
        forms.into_iter().zip(found).find_map(|(form, found)| {
            let kept = value::decode(form, found)?;
            let is_young = kept.kept_at.elapsed() < self.ttl;
            (is_young && kept.body.len() <= bytes_max).then_some((form, kept))
        })
    }

    /// Keeps an answer, some time soon.
    pub(super) fn insert(&self, place: Place, kept: Arc<Kept>) {
        let left = self.ttl.saturating_sub(kept.kept_at.elapsed());
        self.link.write(self.key(place), kept, left);
    }

    fn key(&self, place: Place) -> String {
        let mut key = self.prefix.clone();
        for byte in place.key {
            for digit in [byte >> 4, byte & 15] {
                key.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        key.push_str(match place.form {
            Form::Whole => ":whole",
            Form::Stream => ":stream",
        });
        key
    }
}
