//! Uploads: forms whose model is found and replaced while the file in them passes through.
//!
//! The beginning of a form is kept in memory until its model is known; a form whose model comes late is kept in a file
//! of the data folder that has no name, so that nothing of it outlives the request or the process. What is kept can be
//! sent again to another upstream, what passes through cannot.

mod form;
mod kept;
mod rest;

use std::{io, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use http::HeaderValue;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame};
use protocol::openai::ErrorKind;

pub(crate) use self::kept::Spill;
use self::{
    form::Form,
    kept::{Kept, Spilled},
    rest::{Rest, Source},
};
use super::{Asked, Decoded, multipart};
use crate::fault::Fault;

/// Bytes of a form that are kept in memory.
const MEMORY_BYTES_MAX: usize = 256 << 10;

/// The body of a form on its way to an upstream.
pub(crate) type UploadBody = UnsyncBoxBody<Bytes, io::Error>;

/// A form that can be sent, as often as all of it is kept.
#[derive(Debug)]
pub(crate) struct Upload {
    content_type: HeaderValue,
    kept: Kept,
    rest: Arc<Rest>,
    model: Slot,
    /// Bytes of the whole form, if that is known.
    length: Option<u64>,
}

/// Where the model's name comes in, and what comes around it.
#[derive(Debug)]
struct Slot {
    range: Range<u64>,
    before: String,
    after: &'static str,
}

/// A form for one upstream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The form.
    pub(crate) body: UploadBody,
    /// Its content type, with the boundary.
    pub(crate) content_type: HeaderValue,
    /// Its bytes, if that is known.
    pub(crate) length: Option<u64>,
}

/// Whether a body of this content type is a form.
pub(crate) fn is_form(content_type: Option<&HeaderValue>) -> bool {
    let kind = content_type.and_then(|kind| kind.as_bytes().get(..10));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/"))
}

/// Reads a form until its model is known, or to its end if that comes late.
///
/// # Errors
/// The form is too large, is cut off, or is not what the API asks for; there is no room to keep it.
pub(crate) async fn read<B>(
    asked: Asked<'_>,
    content_type: Option<&HeaderValue>,
    body: B,
    spill: &Spill,
) -> Result<(Decoded, Upload), Fault>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let boundary = multipart::boundary(content_type).map_err(|error| form::invalid(&error))?;
    let declared = body.size_hint().exact();
    let mut source = Source::new(
        body.map_err(Into::into).boxed_unsync(),
        Form::new(&boundary),
        spill.form_bytes_max(),
    );
    if spill.form_bytes_max() < declared.unwrap_or(0) {
        return Err(source.too_large());
    }
    let (kept, is_complete) = keep(&mut source, spill).await?;
    let found = source.form.model();
    let default = || asked.operation.default_model().map(str::to_owned);
    let name = asked.model.map(str::to_owned);
    let name = name.or_else(|| found.map(|found| found.name.clone()));
    let name = name.or_else(default).ok_or_else(|| {
        let message = "The parameter `model` is missing.";
        Fault::of(ErrorKind::InvalidRequest, "model", message)
    })?;
    let slot = match found {
        Some(found) => Slot {
            range: found.range.clone(),
            before: String::new(),
            after: "",
        },
        None => Slot {
            range: 0..0,
            before: format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"
            ),
            after: if source.form.begins_with_line_end() {
                ""
            } else {
                "\r\n"
            },
        },
    };
    let mut decoded = Decoded::without_body(asked.operation, name);
    decoded.fields.stream = source.form.stream();
    let length = if is_complete {
        Some(kept.len())
    } else {
        declared
    };
    let upload = Upload {
        content_type: content_type
            .cloned()
            .unwrap_or(HeaderValue::from_static("")),
        kept,
        rest: Arc::new(Rest::new((!is_complete).then_some(source))),
        model: slot,
        length,
    };
    Ok((decoded, upload))
}

/// Keeps the form until its model is known; whether it came to its end.
async fn keep(source: &mut Source, spill: &Spill) -> Result<(Kept, bool), Fault> {
    let mut memory = BytesMut::new();
    let mut spilled: Option<Spilled> = None;
    loop {
        if MEMORY_BYTES_MAX <= memory.len() {
            if spilled.is_none() && source.form.model().is_some() {
                return Ok((Kept::Memory(memory.freeze()), false));
            }
            let file = match &mut spilled {
                Some(file) => file,
                None => spilled.insert(spill.begin().await?),
            };
            file.write(memory.split().freeze()).await?;
        }
        let Some(data) = source.next().await? else {
            break;
        };
        memory.extend_from_slice(&data);
    }
    Ok((
        match spilled {
            None => Kept::Memory(memory.freeze()),
            Some(mut file) => {
                file.write(memory.freeze()).await?;
                Kept::File(file)
            }
        },
        true,
    ))
}

impl Upload {
    /// Whether a part of it is gone that would have to be sent again.
    pub(crate) fn is_spent(&self) -> bool {
        self.rest.is_taken()
    }

    /// What the client did wrong, if an attempt failed because of it: a form that broke off or goes on as it must not,
    /// or one that does not come in time.
    pub(crate) fn blame(&self, is_late: bool) -> Option<Fault> {
        self.rest.blame(is_late)
    }

    /// The form with this model, for one upstream.
    pub(crate) fn outgoing(&self, model: &str) -> Outgoing {
        let Slot {
            range,
            before,
            after,
        } = &self.model;
        let text = format!("{before}{model}{after}");
        let replaced = range.end.saturating_sub(range.start);
        let added = text.len() as u64;
        let length = self
            .length
            .map(|length| length.saturating_sub(replaced).saturating_add(added));
        let pieces = self
            .kept
            .stream(0..range.start)
            .chain(stream::iter([Ok(Bytes::from(text))]))
            .chain(self.kept.stream(range.end..self.kept.len()))
            .chain(Rest::stream(Arc::clone(&self.rest)));
        Outgoing {
            body: StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync(),
            content_type: self.content_type.clone(),
            length,
        }
    }
}
