//! The URL of a Redis: `redis://` or `rediss://`, with a user, a password and a database if need be.

use std::{fmt, io};

use futures::{FutureExt, future::BoxFuture};
use protocol::address::{STORE_SCHEMES, host_in, is_forbidden_host};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    aio::MultiplexedConnection,
};
use thiserror::Error;

use crate::outside::{self, Duplex};

/// A URL that is none of a Redis; it is not told, as it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum InvalidStore {
    /// It cannot be read.
    #[error("the URL of the cache's store is not as redis://USER:PASSWORD@HOST:PORT/DATABASE")]
    Url,
    /// A metadata service.
    #[error("no request may go to the host in the URL of the cache's store")]
    Forbidden,
}

/// Where a Redis is, and what lets the gateway in.
pub(super) struct Address {
    host: String,
    port: u16,
    is_encrypted: bool,
    login: RedisConnectionInfo,
}

/// Only what may be told.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is none of a Redis, or leads where no request may go.
    pub(super) fn parse(url: &str) -> Result<Self, InvalidStore> {
        let host = host_in(url, &STORE_SCHEMES).ok_or(InvalidStore::Url)?;
        if is_forbidden_host(host) {
            return Err(InvalidStore::Forbidden);
        }
        let (scheme, rest) = url.split_once("://").ok_or(InvalidStore::Url)?;
        // The crate is to read the rest only: the TLS is ours.
        let info = format!("redis://{rest}").into_connection_info();
        let info = info.map_err(|_| InvalidStore::Url)?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err(InvalidStore::Url);
        };
        Ok(Self {
            host: host.clone(),
            port: *port,
            is_encrypted: scheme.eq_ignore_ascii_case("rediss"),
            login: info.redis_settings().clone(),
        })
    }

    /// A connection that has been let in, and what drives it.
    ///
    /// # Errors
    /// Nobody answers there, or the gateway is not let in.
    pub(super) async fn connect(
        &self,
    ) -> Result<(MultiplexedConnection, BoxFuture<'static, ()>), RedisError> {
        let connected = self.open().await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&self.login, connected, config).await;
        made.map(|(connection, driver)| (connection, driver.boxed()))
    }

    async fn open(&self) -> io::Result<Box<dyn Duplex>> {
        let stream = outside::connect(&self.host, self.port).await?;
        Ok(match self.is_encrypted {
            true => Box::new(outside::encrypt(&self.host, stream).await?),
            false => Box::new(stream),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, InvalidStore};

    #[track_caller]
    fn check(url: &str, expected: Result<(&str, bool, i64), InvalidStore>) {
        let parsed = Address::parse(url);
        let parsed = parsed.map(|address| {
            let database = address.login.db();
            (address.to_string(), address.is_encrypted, database)
        });
        let expected = expected.map(|(told, tls, database)| (told.to_owned(), tls, database));
        assert_eq!(parsed, expected, "{url}");
    }

    #[test]
    fn urls_are_those_of_a_redis() {
        check("redis://r", Ok(("r:6379", false, 0)));
        check("rediss://u:p%40ss@r:1/3", Ok(("r:1", true, 3)));
        check("redis://:p@127.0.0.1:7", Ok(("127.0.0.1:7", false, 0)));
        for url in [
            "",
            "http://r",
            "redis+unix:///tmp/x",
            "redis://",
            "redis://r:x",
            "redis://r/x",
        ] {
            check(url, Err(InvalidStore::Url));
        }
        check("redis://169.254.169.254", Err(InvalidStore::Forbidden));
    }

    #[test]
    fn passwords_are_percent_decoded_and_told_to_nobody() {
        let address = Address::parse("redis://u:p%40ss@r").unwrap();
        assert_eq!(address.login.password(), Some("p@ss"));
        assert!(!address.to_string().contains("p@ss"));
        let fault = Address::parse("redis://u:secret@r:x")
            .map(|_| ())
            .unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("secret"));
    }
}
