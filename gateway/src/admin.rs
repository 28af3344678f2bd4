//! The admin API: keys, teams, users, tags, what they spent and who changed them, for the holder of the admin key.

mod key;
mod litellm;
mod request;
mod resources;
mod spend;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use hyper::body::Body as HttpBody;
use protocol::openai::ErrorKind;

pub(crate) use self::key::{AdminKey, InvalidAdminKey};
use self::request::{Head, Request};
use crate::{
    authorize::bearer,
    encode::Body,
    fault::Fault,
    gateway::Gateway,
    people::{Edit, exchange},
};

/// What all paths of this API begin with.
const PREFIX: &str = "/admin/v1/";

/// Whether a path belongs to the admin API.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with(PREFIX) || litellm::owns(path)
}

/// Answers one request of the admin API.
///
/// # Errors
/// What the caller is told in place of an answer.
pub(crate) async fn handle<B>(
    gateway: &Gateway,
    head: Head<'_>,
    body: B,
) -> Result<Response<Body>, Fault>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if litellm::owns(head.1.path()) {
        // Some of it is for everybody, and some for the holders of other keys.
        let who = match authorize(gateway, head.2) {
            Ok(()) => litellm::Who::Admin,
            Err(_) => litellm::Who::Caller(gateway.caller(head.2)),
        };
        let request = Request::read(head, body).await?;
        let segments = request::segments(request.path.trim_start_matches('/'))?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        return litellm::answer(gateway, &request, &segments, who).await;
    }
    authorize(gateway, head.2)?;
    let request = Request::read(head, body).await?;
    let below = request.path.strip_prefix(PREFIX).unwrap_or_default();
    let segments = request::segments(below)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments[..] {
        ["spend"] if request.method == Method::GET => spend::answer(gateway, &request).await,
        _ => resources::answer(gateway, &request, &segments).await,
    }
}

/// Lets nobody pass but the holder of the admin key.
fn authorize(gateway: &Gateway, headers: &HeaderMap) -> Result<(), Fault> {
    let Some(admin) = &gateway.admin else {
        return Err(Fault::new(
            ErrorKind::NotFound,
            "This gateway has no admin API. Start it with --admin-key-file.",
        ));
    };
    match bearer(headers) {
        Some(token) if admin.opens(token) => Ok(()),
        Some(_) => Err(Fault::new(
            ErrorKind::PermissionDenied,
            "This takes the admin key, and the one that was sent is another.",
        )),
        None => Err(Fault::new(
            ErrorKind::InvalidApiKey,
            "Send the admin key in the header `Authorization: Bearer ADMIN_KEY`.",
        )),
    }
}

/// Looks at what is kept and changes it, on a thread that may wait for the disk.
///
/// # Errors
/// The work's, or the disk's.
async fn edit<T: Send + 'static>(
    gateway: &Gateway,
    actor: &str,
    work: impl FnOnce(&mut Edit<'_>) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (people, actor) = (std::sync::Arc::clone(&gateway.people), actor.to_owned());
    let work = move || {
        let before = people.changes();
        let done = people.edit(&actor, work);
        (done, before < people.changes())
    };
    let worked = tokio::task::spawn_blocking(work).await;
    let (done, has_changed) = worked.map_err(|error| {
        tracing::error!(%error, "a change of keys and teams broke off");
        Fault::new(
            ErrorKind::Internal,
            "The change broke off. Look whether it is there before you try again.",
        )
    })?;
    if has_changed && gateway.fleet.is_shared() {
        // Whoever hears that it is done can use it at once, whichever replica is asked.
        exchange::announce(&gateway.fleet).await;
    }
    done
}
