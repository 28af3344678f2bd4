//! The guard at the door out: a name that resolves to a metadata service, or to what is only on the same wire, leads
//! nowhere.
//!
//! Addresses that are written in a URL are checked when the table is compiled; names only now, since whoever owns a name
//! can let it point elsewhere at any time.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use protocol::address::is_forbidden;
use tower_service::Service;

/// A resolver that leaves out forbidden addresses.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<R = GaiResolver> {
    inner: R,
}

impl Guarded {
    /// Guards what the system resolves.
    pub(crate) fn new() -> Self {
        Self {
            inner: GaiResolver::new(),
        }
    }
}

impl<R> Service<Name> for Guarded<R>
where
    R: Service<Name, Error = io::Error>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Future: Send + 'static,
{
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.inner.call(name.clone());
        Box::pin(async move {
            let allowed: Vec<SocketAddr> = resolving
                .await?
                .filter(|address| !is_forbidden(address.ip()))
                .collect();
            if allowed.is_empty() {
                let message = format!("`{name}` has no address that a request may go to");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
            Ok(allowed.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Ready, ready},
        io,
        net::SocketAddr,
        task::{Context, Poll},
        vec,
    };

    use hyper_util::client::legacy::connect::dns::Name;
    use tower_service::Service;

    use super::Guarded;

    /// A resolver that finds the same for every name.
    struct Fixed(Vec<SocketAddr>);

    impl Service<Name> for Fixed {
        type Response = vec::IntoIter<SocketAddr>;
        type Error = io::Error;
        type Future = Ready<io::Result<Self::Response>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            ready(Ok(self.0.clone().into_iter()))
        }
    }

    /// What is left of the addresses of a name; nothing if the name leads nowhere.
    async fn allowed(addresses: &[&str]) -> Vec<String> {
        let resolved = addresses
            .iter()
            .map(|address| format!("{address}:80").parse().unwrap())
            .collect();
        let mut guarded = Guarded {
            inner: Fixed(resolved),
        };
        let found = guarded.call("llm.example".parse().unwrap()).await;
        found.map_or_else(
            |_| Vec::new(),
            |found| found.map(|address| address.ip().to_string()).collect(),
        )
    }

    #[tokio::test]
    async fn a_name_leads_only_where_requests_may_go() {
        assert_eq!(allowed(&["10.0.0.1", "[::1]"]).await, ["10.0.0.1", "::1"]);
        assert_eq!(
            allowed(&["169.254.169.254", "10.0.0.1"]).await,
            ["10.0.0.1"]
        );
        let nowhere: [&str; 0] = [];
        assert_eq!(allowed(&["169.254.169.254"]).await, nowhere);
        assert_eq!(allowed(&["[fd00:ec2::254]", "[fe80::1]"]).await, nowhere);
        assert_eq!(allowed(&[]).await, nowhere);
    }

    #[tokio::test]
    async fn numbers_that_only_the_system_takes_for_an_address_are_guarded_too() {
        // 169.254.169.254 as one number, in octal and shortened.
        for name in ["2852039166", "0251.0376.0251.0376", "169.254.43518"] {
            let found = Guarded::new().call(name.parse().unwrap()).await;
            assert!(found.is_err(), "{name}");
        }
        let mut loopback = Guarded::new().call("127.1".parse().unwrap()).await.unwrap();
        assert!(loopback.all(|address| address.ip().is_loopback()));
    }
}
