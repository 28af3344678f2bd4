//! What was fetched and ends: one fetch for all who wait, renewed before the end.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;

use super::NoToken;
use crate::upstream::Upstream;

/// How long before its end something is fetched anew, so that nothing ends on its way.
const RENEW_BEFORE: Duration = Duration::from_secs(120);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what has not ended is used before the next fetch after one that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(10);
/// The longest time that something is taken to last: no clock overflows.
const LASTS_MAX: Duration = Duration::from_secs(24 * 3600);

/// What was fetched, and how long it lasts.
#[derive(Debug, Clone)]
pub(super) struct Fresh<T> {
    /// It.
    pub(super) value: T,
    /// How long it lasts from when it was asked for.
    pub(super) lasts: Duration,
}

/// Where something that ends comes from.
pub(super) trait Source<T>: Send + Sync {
    /// Fetches it.
    fn fetch<'a>(&'a self, upstream: &'a Upstream) -> BoxFuture<'a, Result<Fresh<T>, NoToken>>;
}

#[derive(Debug, Clone)]
struct Current<T> {
    value: T,
    renew: Instant,
    until: Instant,
}

type Fetch<T> = Shared<BoxFuture<'static, Result<T, NoToken>>>;

struct Kept<T> {
    current: Option<Current<T>>,
    fetch: Option<Fetch<T>>,
}

/// What a source gives, kept until shortly before its end.
pub(crate) struct Held<T> {
    source: Box<dyn Source<T>>,
    kept: Mutex<Kept<T>>,
}

impl<T> fmt::Debug for Held<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Held").finish_non_exhaustive()
    }
}

impl<T: Clone + Send + Sync + 'static> Held<T> {
    /// What this source gives, once it is wanted.
    pub(super) fn new(source: Box<dyn Source<T>>) -> Self {
        let kept = Kept {
            current: None,
            fetch: None,
        };
        Self {
            source,
            kept: Mutex::new(kept),
        }
    }

    /// What is kept, or else what is fetched now.
    ///
    /// # Errors
    /// [`NoToken`]; the next call tries again.
    ///
    /// # Cancel safety
    /// A fetch that was begun goes on with the next caller.
    pub(crate) async fn get(self: &Arc<Self>, upstream: &Upstream) -> Result<T, NoToken> {
        let fetch = {
            let mut kept = self.kept.lock();
            let now = Instant::now();
            if let Some(current) = &kept.current
                && now < current.renew
            {
                return Ok(current.value.clone());
            }
            let begin = || {
                fetch(Arc::downgrade(self), upstream.clone())
                    .boxed()
                    .shared()
            };
            kept.fetch.get_or_insert_with(begin).clone()
        };
        fetch.await
    }

    /// Forgets what was refused.
    pub(crate) fn forget(&self) {
        self.kept.lock().current = None;
    }

    /// Keeps what was fetched; after a fetch that failed, what has not ended yet serves on for a while.
    fn keep(&self, asked: Instant, outcome: Result<Fresh<T>, NoToken>) -> Result<T, NoToken> {
        let mut kept = self.kept.lock();
        kept.fetch = None;
        match outcome {
            Ok(Fresh { value, lasts }) => {
                let lasts = lasts.min(LASTS_MAX);
                kept.current = Some(Current {
                    value: value.clone(),
                    renew: asked + lasts.saturating_sub(RENEW_BEFORE),
                    until: asked + lasts,
                });
                Ok(value)
            }
            Err(why) => {
                let now = Instant::now();
                let current = kept.current.as_mut();
                let current = current.filter(|current| now < current.until).ok_or(why)?;
                current.renew = current.until.min(now + RENEW_AGAIN);
                Ok(current.value.clone())
            }
        }
    }
}

async fn fetch<T: Clone + Send + Sync + 'static>(
    held: Weak<Held<T>>,
    upstream: Upstream,
) -> Result<T, NoToken> {
    let Some(held) = held.upgrade() else {
        return Err(NoToken::Unreachable("the target is gone".to_owned()));
    };
    let asked = Instant::now();
    let fetched = tokio::time::timeout(FETCH_TIMEOUT, held.source.fetch(&upstream)).await;
    let late = || NoToken::Unreachable(format!("no credential within {FETCH_TIMEOUT:?}"));
    held.keep(asked, fetched.unwrap_or_else(|_| Err(late())))
}
