//! What the gateway reads of a form: its model, and whether a stream is asked for. Everything else is only passed.

use std::ops::Range;

use protocol::openai::ErrorKind;

use crate::{
    decode::{
        fields::MODEL_BYTES_MAX,
        multipart::{InvalidForm, Piece, Scanner},
    },
    fault::Fault,
};

/// A form as far as it came.
#[derive(Debug)]
pub(super) struct Form {
    scanner: Scanner,
    model: Option<Model>,
    stream: Option<bool>,
    /// The part that is being read.
    part: Option<Part>,
    begins_with_line_end: Option<bool>,
}

/// The model that a form names.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Its name.
    pub(super) name: String,
    /// Where that lies in the form.
    pub(super) range: Range<u64>,
}

#[derive(Debug)]
struct Part {
    name: Name,
    begin: u64,
    value: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Model,
    Stream,
}

impl Form {
    /// A form whose parts are told apart by this boundary.
    pub(super) fn new(boundary: &str) -> Self {
        Self {
            scanner: Scanner::new(boundary),
            model: None,
            stream: None,
            part: None,
            begins_with_line_end: None,
        }
    }

    /// The model, once it came.
    pub(super) const fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }

    /// Whether a stream is asked for, as far as the form came.
    pub(super) fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a line's end stands before the first boundary.
    pub(super) fn begins_with_line_end(&self) -> bool {
        self.begins_with_line_end.unwrap_or(false)
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// The form is malformed, or names its model twice.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let (None, Some(first)) = (self.begins_with_line_end, bytes.first()) {
            self.begins_with_line_end = Some(*first == b'\r');
        }
        self.scanner.push(bytes).map_err(|error| invalid(&error))?;
        while let Some(piece) = self.scanner.next() {
            self.read(piece)?;
        }
        Ok(())
    }

    /// Takes the end.
    ///
    /// # Errors
    /// The form is not complete.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        self.scanner.finish().map_err(|error| invalid(&error))
    }

    fn read(&mut self, piece: Piece) -> Result<(), Fault> {
        match piece {
            Piece::Begin(head, begin) => {
                let (name, is_known) = match head.name.as_str() {
                    "model" => (Name::Model, self.model.is_some()),
                    "stream" => (Name::Stream, self.stream.is_some()),
                    _ => {
                        self.part = None;
                        return Ok(());
                    }
                };
                if is_known || head.filename.is_some() {
                    // Readers differ in which of two they believe: the upstream could serve what was not allowed.
                    let message = format!("The form's part `{}` must be one value.", head.name);
                    return Err(Fault::new(ErrorKind::InvalidRequest, message));
                }
                self.part = Some(Part {
                    name,
                    begin,
                    value: Vec::new(),
                });
            }
            Piece::Content(content) => {
                if let Some(part) = &mut self.part {
                    if MODEL_BYTES_MAX < part.value.len() + content.len() {
                        let message = format!(
                            "The parameter `model` is longer than {MODEL_BYTES_MAX} bytes."
                        );
                        return Err(Fault::of(ErrorKind::InvalidRequest, "model", message));
                    }
                    part.value.extend_from_slice(&content);
                }
            }
            Piece::End(end) => {
                if let Some(part) = self.part.take() {
                    self.take(part, end)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, part: Part, end: u64) -> Result<(), Fault> {
        let refused = |param: &'static str, must: &str| {
            let message = format!("The parameter `{param}` must be {must}.");
            Fault::of(ErrorKind::InvalidRequest, param, message)
        };
        match part.name {
            Name::Model => {
                let name = String::from_utf8(part.value).map_err(|_| refused("model", "a text"))?;
                self.model = Some(Model {
                    name,
                    range: part.begin..end,
                });
            }
            Name::Stream => {
                self.stream = Some(match part.value.as_slice() {
                    b"true" | b"True" | b"1" => true,
                    b"false" | b"False" | b"0" | b"" => false,
                    _ => return Err(refused("stream", "a boolean")),
                });
            }
        }
        Ok(())
    }
}

/// What the client is told of a form that cannot be read.
pub(super) fn invalid(error: &InvalidForm) -> Fault {
    let message = format!("The request's form is not valid: {error}.");
    Fault::new(ErrorKind::InvalidRequest, message)
}
