//! The door for other replicas, which show the token that all of them have.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as HttpBody;
use protocol::openai::ErrorKind;

use super::message::{Answer, Letter};
use crate::{
    authorize::bearer,
    encode::{self, Body},
    fault::Fault,
    gateway::Gateway,
    people::exchange,
};

/// Where replicas ask each other.
pub(super) const PATH: &str = "/internal/v1/leases";
/// Bytes of a question.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Whether a path is for other replicas.
pub(crate) fn owns(path: &str) -> bool {
    path == PATH
}

/// Answers another replica.
///
/// # Errors
/// What is told to whoever is none, or asks what cannot be understood.
pub(crate) async fn handle<B>(
    gateway: &Gateway,
    (method, headers): (&Method, &HeaderMap),
    body: B,
) -> Result<Response<Body>, Fault>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let fleet = &gateway.fleet;
    if !bearer(headers).is_some_and(|token| fleet.opens(token)) {
        return Err(Fault::new(
            ErrorKind::NotFound,
            format!("There is nothing at {method} {PATH}."),
        ));
    }
    let invalid = || {
        Fault::new(
            ErrorKind::InvalidRequest,
            "This is no question of a replica's.",
        )
    };
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|_| invalid())?.to_bytes();
    let letter: Letter = serde_json::from_slice(&body).map_err(|_| invalid())?;
    let message = match letter {
        Letter::About(message) => message,
        Letter::Tell => return Ok(encode::json(StatusCode::OK, &fleet.told())),
        Letter::Changes { store, after } => {
            let people = Arc::clone(&gateway.people);
            let read = move || people.changes_after(&store, after);
            let read = tokio::task::spawn_blocking(read).await;
            let page = read.map_err(|_| invalid())??;
            return Ok(encode::json(StatusCode::OK, &Answer::Changes(page)));
        }
        Letter::Look { at } => {
            exchange::look(&gateway.people, fleet, &at).await;
            return Ok(encode::json(StatusCode::OK, &Answer::Looked));
        }
    };
    let pool = match fleet.find(&message.pool) {
        Some(pool) => pool,
        None => {
            // What this replica has spent is in its ledger, which is read on a thread that may wait.
            let (lasting, id) = (Arc::clone(&gateway.lasting), message.pool.clone());
            let capacity = message.capacity();
            let opened = tokio::task::spawn_blocking(move || lasting.meters.open(id, capacity));
            let opened = opened.await.ok().flatten();
            opened.ok_or_else(invalid)?
        }
    };
    let answer = Box::pin(fleet.answer(&pool, &message)).await;
    Ok(encode::json(StatusCode::OK, &answer))
}
