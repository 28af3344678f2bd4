//! Counts the requests to the API server, under client-go's name.

use std::task::{Context, Poll};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use tower::{Layer, Service};

use crate::metrics::{ClientRequest, Metrics};

/// Counts what passes.
#[derive(Debug, Clone)]
pub(crate) struct CountRequests {
    pub(crate) metrics: Metrics,
}

/// A client that counts.
#[derive(Debug, Clone)]
pub(crate) struct Counting<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Layer<S> for CountRequests {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting {
            inner,
            metrics: self.metrics.clone(),
        }
    }
}

impl<S, Sent, Received> Service<Request<Sent>> for Counting<S>
where
    S: Service<Request<Sent>, Response = Response<Received>>,
    S::Future: Send + 'static,
    S::Error: Send,
    Received: Send,
{
    type Response = Response<Received>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Received>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        let method = request.method().to_string();
        let metrics = self.metrics.clone();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or_else(
                |_| "error".to_owned(),
                |answer| answer.status().as_u16().to_string(),
            );
            metrics
                .client_requests
                .get_or_create(&ClientRequest { code, method })
                .inc();
            answer
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use tower::{Layer, ServiceExt, service_fn};

    use super::CountRequests;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn requests_are_counted_by_method_and_code() {
        let metrics = Metrics::default();
        let answer = service_fn(async |request: Request<u16>| match *request.body() {
            0 => Err("no connection"),
            code => Ok(Response::builder()
                .status(code)
                .body(())
                .expect("an answer")),
        });
        let layer = CountRequests {
            metrics: metrics.clone(),
        };
        for code in [200, 200, 409, 0] {
            let request = Request::patch("/").body(code).expect("a request");
            let _ = layer.layer(answer).oneshot(request).await;
        }
        let text = metrics.render();
        for line in [
            "rest_client_requests_total{code=\"200\",method=\"PATCH\"} 2",
            "rest_client_requests_total{code=\"409\",method=\"PATCH\"} 1",
            "rest_client_requests_total{code=\"error\",method=\"PATCH\"} 1",
        ] {
            assert!(text.contains(line), "{text} lacks {line}");
        }
    }
}
