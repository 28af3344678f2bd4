//! `POST /v1/responses`: items in, items or typed events out.

mod event;
mod output;
mod request;

pub use event::{ResponseEvent, SequencedEvent};
pub use output::{
    ContentPartKind, IncompleteDetails, OutputContent, OutputItem, OutputLogprob, OutputText,
    ReasoningPart, ResponseError, ResponseObject, ResponseStatus, ResponseUsage,
};
pub use request::{
    InputItem, InputItemKind, Reasoning, ResponseContent, ResponseFormat, ResponseFunctionTool,
    ResponseInput, ResponseText, ResponseToolChoice, ResponsesRequest,
};
