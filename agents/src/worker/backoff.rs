//! Back-off: pauses that double, with jitter so that those who fell together do not rise together.

use std::time::Duration;

use rand::Rng;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// How long to pause before the next try.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// Pauses as long as the server asked for, or longer with each try.
    pub(crate) async fn pause(&mut self, asked: Option<Duration>) {
        let jitter = rand::rng().random_range(0.5..1.0);
        let pause = asked.unwrap_or_else(|| self.next.mul_f64(jitter));
        self.next = (self.next * 2).min(LONGEST);
        tokio::time::sleep(pause).await;
    }
}
