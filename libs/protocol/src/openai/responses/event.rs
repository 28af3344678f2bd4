//! The typed events of a streamed response, in the order that clients expect.

use serde::{Deserialize, Serialize};

use super::{ContentPartKind, OutputItem, OutputLogprob, ResponseObject};

/// An event and its place in the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequencedEvent {
    /// The event.
    #[serde(flatten)]
    pub event: ResponseEvent,
    /// Its place, from 0.
    pub sequence_number: u64,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum ResponseEvent {
    /// The first event.
    #[serde(rename = "response.created")]
    Created {
        /// Without output.
        response: Box<ResponseObject>,
    },
    /// The second event.
    #[serde(rename = "response.in_progress")]
    InProgress {
        /// Without output.
        response: Box<ResponseObject>,
    },
    /// An item begins.
    #[serde(rename = "response.output_item.added")]
    OutputItemAdded {
        /// Its place.
        output_index: u32,
        /// Empty as yet.
        item: OutputItem,
    },
    /// A part of an item begins.
    #[serde(rename = "response.content_part.added")]
    ContentPartAdded {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The part's place.
        content_index: u32,
        /// Empty as yet.
        part: ContentPartKind,
    },
    /// More text.
    #[serde(rename = "response.output_text.delta")]
    OutputTextDelta {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The part's place.
        content_index: u32,
        /// The text.
        delta: String,
        /// Of the new tokens, if asked for.
        logprobs: Vec<OutputLogprob>,
    },
    /// The text is complete.
    #[serde(rename = "response.output_text.done")]
    OutputTextDone {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The part's place.
        content_index: u32,
        /// All of it.
        text: String,
        /// Of all tokens, if asked for.
        logprobs: Vec<OutputLogprob>,
    },
    /// More of a refusal.
    #[serde(rename = "response.refusal.delta")]
    RefusalDelta {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The part's place.
        content_index: u32,
        /// The text.
        delta: String,
    },
    /// The refusal is complete.
    #[serde(rename = "response.refusal.done")]
    RefusalDone {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The part's place.
        content_index: u32,
        /// All of it.
        refusal: String,
    },
    /// More thoughts.
    #[serde(rename = "response.reasoning_text.delta")]
    ReasoningTextDelta {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The part's place.
        content_index: u32,
        /// The text.
        delta: String,
    },
    /// The thoughts are complete.
    #[serde(rename = "response.reasoning_text.done")]
    ReasoningTextDone {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The part's place.
        content_index: u32,
        /// All of it.
        text: String,
    },
    /// More of a call's arguments.
    #[serde(rename = "response.function_call_arguments.delta")]
    FunctionCallArgumentsDelta {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The piece.
        delta: String,
    },
    /// A call's arguments are complete.
    #[serde(rename = "response.function_call_arguments.done")]
    FunctionCallArgumentsDone {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The function's name.
        name: String,
        /// All of them.
        arguments: String,
    },
    /// A part is complete.
    #[serde(rename = "response.content_part.done")]
    ContentPartDone {
        /// The item.
        item_id: String,
        /// Its place.
        output_index: u32,
        /// The part's place.
        content_index: u32,
        /// All of it.
        part: ContentPartKind,
    },
    /// An item is complete.
    #[serde(rename = "response.output_item.done")]
    OutputItemDone {
        /// Its place.
        output_index: u32,
        /// All of it.
        item: OutputItem,
    },
    /// The last event of a complete response.
    #[serde(rename = "response.completed")]
    Completed {
        /// All of it.
        response: Box<ResponseObject>,
    },
    /// The last event of a response that ended early.
    #[serde(rename = "response.incomplete")]
    Incomplete {
        /// What there is.
        response: Box<ResponseObject>,
    },
    /// The last event of a response that failed.
    #[serde(rename = "response.failed")]
    Failed {
        /// What there is.
        response: Box<ResponseObject>,
    },
}

impl ResponseEvent {
    /// The event's type, which is also the type of the server-sent event.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "response.created",
            Self::InProgress { .. } => "response.in_progress",
            Self::OutputItemAdded { .. } => "response.output_item.added",
            Self::ContentPartAdded { .. } => "response.content_part.added",
            Self::OutputTextDelta { .. } => "response.output_text.delta",
            Self::OutputTextDone { .. } => "response.output_text.done",
            Self::RefusalDelta { .. } => "response.refusal.delta",
            Self::RefusalDone { .. } => "response.refusal.done",
            Self::ReasoningTextDelta { .. } => "response.reasoning_text.delta",
            Self::ReasoningTextDone { .. } => "response.reasoning_text.done",
            Self::FunctionCallArgumentsDelta { .. } => "response.function_call_arguments.delta",
            Self::FunctionCallArgumentsDone { .. } => "response.function_call_arguments.done",
            Self::ContentPartDone { .. } => "response.content_part.done",
            Self::OutputItemDone { .. } => "response.output_item.done",
            Self::Completed { .. } => "response.completed",
            Self::Incomplete { .. } => "response.incomplete",
            Self::Failed { .. } => "response.failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ResponseEvent, SequencedEvent};

    #[test]
    fn an_event_says_its_type_and_its_place() {
        let event = ResponseEvent::FunctionCallArgumentsDelta {
            item_id: "fc_1".to_owned(),
            output_index: 2,
            delta: "{".to_owned(),
        };
        let name = event.name();
        let event = SequencedEvent {
            event,
            sequence_number: 7,
        };
        let expected = json!({
            "type": name, "item_id": "fc_1", "output_index": 2, "delta": "{", "sequence_number": 7,
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
        let back: SequencedEvent = serde_json::from_value(expected).unwrap();
        assert_eq!(back, event);
    }
}
