//! `/v1/batches`: makes batches, tells how far they are, and ends them early.

use http::{Response, StatusCode};
use jiff::Timestamp;
use protocol::openai::ErrorKind;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Desk, page};
use crate::{
    batches,
    encode::{self, Body},
    fault::Fault,
    objects::{Batch, OpenBatch, Status, new_id},
};

/// Entries of a list, if nobody says how many.
const PAGE: usize = 20;
/// Entries of `metadata`.
const METADATA_MAX: usize = 16;
/// Hours that a batch may take.
const HOURS: std::ops::RangeInclusive<i64> = 1..=168;

/// What a client says of a new batch.
#[derive(Debug, Deserialize)]
pub(super) struct Create {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

/// `POST /v1/batches`.
pub(super) async fn create(desk: &Desk<'_>, create: Create) -> Result<Response<Body>, Fault> {
    let refused = |param: &'static str, message: &str| {
        Fault::of(ErrorKind::InvalidRequest, param, message.to_owned())
    };
    if batches::operation(&create.endpoint).is_none() {
        let message = "The parameter `endpoint` must be the path of an operation with a body of JSON, as `/v1/chat/completions`.";
        return Err(refused("endpoint", message));
    }
    let hours = create.completion_window.strip_suffix('h');
    let hours = hours.and_then(|hours| hours.parse::<i64>().ok());
    let Some(hours) = hours.filter(|hours| HOURS.contains(hours)) else {
        let message = "The parameter `completion_window` must be a time from `1h` to `168h`.";
        return Err(refused("completion_window", message));
    };
    let is_long = |metadata: &Map<String, Value>| METADATA_MAX < metadata.len();
    if create.metadata.as_ref().is_some_and(is_long) {
        return Err(refused(
            "metadata",
            "The parameter `metadata` has more than 16 entries.",
        ));
    }
    let file = desk.objects.file(&desk.key, &create.input_file_id).await?;
    if file.purpose != "batch" {
        let message = "The file of `input_file_id` was not uploaded with the purpose `batch`.";
        return Err(refused("input_file_id", message));
    }
    let now = Timestamp::now().as_second();
    let batch = Batch {
        id: new_id("batch_"),
        object: "batch".to_owned(),
        endpoint: create.endpoint,
        input_file_id: create.input_file_id,
        completion_window: create.completion_window,
        created_at: now,
        expires_at: now.saturating_add(hours * 3600),
        metadata: create.metadata,
        ..Batch::default()
    };
    let open = OpenBatch {
        batch: batch.clone(),
        key: desk.key.clone(),
        output: new_id("file-"),
        errors: new_id("file-"),
    };
    desk.objects.add_batch(open).await?;
    Ok(encode::json(StatusCode::OK, &batch))
}

/// `GET /v1/batches`.
pub(super) async fn list(desk: &Desk<'_>) -> Result<Response<Body>, Fault> {
    let wanted = desk.page(PAGE)?;
    let (batches, has_more) = desk.objects.batches(&desk.key, wanted).await?;
    Ok(page(batches, has_more, |batch| &batch.id))
}

/// `GET /v1/batches/ID`.
pub(super) async fn get(desk: &Desk<'_>, id: &str) -> Result<Response<Body>, Fault> {
    let batch = desk.objects.batch(&desk.key, id).await?;
    Ok(encode::json(StatusCode::OK, &batch))
}

/// `POST /v1/batches/ID/cancel`. What is already done stays as it is.
pub(super) async fn cancel(desk: &Desk<'_>, id: &str) -> Result<Response<Body>, Fault> {
    // Whose batch it is.
    desk.objects.batch(&desk.key, id).await?;
    let change = |batch: &mut Batch| {
        if matches!(batch.status, Status::Validating | Status::InProgress) {
            batch.status = Status::Cancelling;
            batch.cancelling_at = Some(Timestamp::now().as_second());
        }
    };
    let batch = desk.objects.edit_batch(id, Vec::new(), change).await?;
    if batch.status == Status::Cancelling {
        desk.objects.stop(id);
        return Ok(encode::json(StatusCode::OK, &batch));
    }
    let message = format!(
        "The batch is {} and cannot be cancelled.",
        word(batch.status)
    );
    Err(Fault::new(ErrorKind::InvalidRequest, message))
}

const fn word(status: Status) -> &'static str {
    match status {
        Status::Validating => "validating",
        Status::Failed => "failed",
        Status::InProgress => "in progress",
        Status::Finalizing => "finalizing",
        Status::Completed => "completed",
        Status::Expired => "expired",
        Status::Cancelling => "cancelling",
        Status::Cancelled => "cancelled",
    }
}
