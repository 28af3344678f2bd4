//! `GET /containerLogs/NAMESPACE/POD/CONTAINER`: a container's log as plain text, followed on demand.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Refusal;
use super::query::{Parameters, find_container, find_pod};
use crate::context::NodeContext;
use crate::logs::line::Stream;
use crate::logs::read::{LogQuery, read};

/// Pieces of a log that wait for a slow reader.
const PIECES_MAX: usize = 8;

pub(super) async fn container_logs(
    State(context): State<Arc<NodeContext>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri);
    let door = find_pod(&context, &namespace, &pod)?;
    let (name, container) = find_container(&door, &container)?;
    let query = log_query(&parameters, Timestamp::now())?;
    let waiting = || {
        Refusal::bad_request(format!(
            "container \"{name}\" in pod \"{pod}\" is waiting to start: ContainerCreating"
        ))
    };
    let mut attempt = container.attempt.ok_or_else(waiting)?;
    if parameters.is_set("previous") {
        let none = || {
            Refusal::bad_request(format!(
                "previous terminated container \"{name}\" in pod \"{pod}\" not found"
            ))
        };
        attempt = attempt.checked_sub(1).ok_or_else(none)?;
        if !context.logs.path(&door.id, &name, attempt).exists() {
            return Err(none());
        }
    }
    let path = context.logs.path(&door.id, &name, attempt);
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let (logs, shutdown) = (context.logs.clone(), context.shutdown.clone());
    context.tasks.spawn(async move {
        tokio::select! {
            result = read(logs, path, query, sender) => if let Err(error) = result {
                tracing::debug!(%error, "log not read to its end");
            },
            // The last lines of ending containers are still shown.
            () = async { shutdown.cancelled().await; tokio::time::sleep(LAST_LINES).await } => {}
        }
    });
    let body =
        Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, std::convert::Infallible>));
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

const LAST_LINES: Duration = Duration::from_secs(1);

fn log_query(parameters: &Parameters, now: Timestamp) -> Result<LogQuery, Refusal> {
    let since_seconds = parameters.number("sinceSeconds")?;
    let since_time = match parameters.get("sinceTime") {
        Some(text) => {
            let invalid =
                |_| Refusal::bad_request(format!("sinceTime: \"{text}\" is not an RFC 3339 time"));
            Some(text.parse::<Timestamp>().map_err(invalid)?)
        }
        None => None,
    };
    if since_seconds.is_some() && since_time.is_some() {
        return Err(Refusal::bad_request(
            "at most one of sinceTime or sinceSeconds may be specified",
        ));
    }
    let ago = since_seconds.and_then(|seconds| {
        now.checked_sub(SignedDuration::from_secs(i64::try_from(seconds).ok()?))
            .ok()
    });
    let stream = match parameters.get("stream") {
        None | Some("All") => None,
        Some("Stdout") => Some(Stream::Stdout),
        Some("Stderr") => Some(Stream::Stderr),
        Some(other) => {
            return Err(Refusal::bad_request(format!(
                "stream: \"{other}\" is not All, Stdout or Stderr"
            )));
        }
    };
    Ok(LogQuery {
        follow: parameters.is_set("follow"),
        tail_lines: parameters.number("tailLines")?,
        since: since_time.or(ago),
        timestamps: parameters.is_set("timestamps"),
        limit_bytes: parameters.number("limitBytes")?,
        stream,
    })
}
