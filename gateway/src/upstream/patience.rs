//! How long a connection may take to come about, its encryption included, as each request says.
//!
//! One client serves all routes, so that they share connections; the time travels with the request's task.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use protocol::snapshot::CONNECT_MILLIS;
use tower_service::Service;

tokio::task_local! {
    static CONNECT_WITHIN: Duration;
}

/// Why there is no connection.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs a request whose connection, if it needs a new one, must come about in this time.
pub(crate) async fn connecting_within<F: Future>(limit: Duration, request: F) -> F::Output {
    CONNECT_WITHIN.scope(limit, request).await
}

/// A connector that gives up in time.
#[derive(Debug, Clone)]
pub(crate) struct Patient<C> {
    connector: C,
}

impl<C> Patient<C> {
    /// A connector that gives up in the time of the request that it connects for.
    pub(super) const fn new(connector: C) -> Self {
        Self { connector }
    }
}

impl<C> Service<Uri> for Patient<C>
where
    C: Service<Uri>,
    C::Error: Into<Error>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let given = CONNECT_WITHIN.try_with(|limit| *limit);
        let limit = given.unwrap_or(Duration::from_millis(CONNECT_MILLIS));
        let connecting = self.connector.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => {
                    let message = format!("no connection within {limit:?}");
                    Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
                }
            }
        })
    }
}

/// Whether a request failed since its connection did not come about in time.
pub(crate) fn is_connect_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let error_io = error.downcast_ref::<io::Error>();
        if error_io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Pending, pending},
        task::{Context, Poll},
        time::Duration,
    };

    use http::Uri;
    use tower_service::Service;

    use super::{Patient, connecting_within, is_connect_timeout};

    /// A connector that never connects.
    struct Never;

    impl Service<Uri> for Never {
        type Response = ();
        type Error = std::io::Error;
        type Future = Pending<Result<(), Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Uri) -> Self::Future {
            pending()
        }
    }

    #[tokio::test]
    async fn a_connection_is_given_up_in_the_time_of_its_request() {
        let uri = Uri::from_static("http://upstream.example");
        let limit = Duration::from_millis(5);
        let connecting = async { Patient::new(Never).call(uri).await };
        let error = connecting_within(limit, connecting).await.unwrap_err();
        assert_eq!(error.to_string(), "no connection within 5ms");
        assert!(is_connect_timeout(&*error));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(!is_connect_timeout(&refused));
    }
}
