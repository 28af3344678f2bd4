//! The response before anything is made: what comes back of the request.

use protocol::openai::{
    ResponseFormat, ResponseObject, ResponseStatus, ResponseToolChoice, ResponsesRequest,
};

use super::super::{identifier, now};

/// A response without output.
pub(super) fn response(request: &ResponsesRequest) -> ResponseObject {
    let mut text = request.text.clone().unwrap_or_default();
    text.format.get_or_insert(ResponseFormat::Text);
    ResponseObject {
        id: identifier("resp_"),
        object: "response".to_owned(),
        created_at: now(),
        completed_at: None,
        status: ResponseStatus::InProgress,
        error: None,
        incomplete_details: None,
        instructions: request.instructions.clone(),
        max_output_tokens: request.max_output_tokens,
        model: request.model.clone(),
        output: Vec::new(),
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        previous_response_id: None,
        reasoning: request.reasoning.clone(),
        store: false,
        temperature: request.temperature.unwrap_or(1.0),
        text,
        tool_choice: request
            .tool_choice
            .clone()
            .unwrap_or_else(|| ResponseToolChoice::Word("auto".to_owned())),
        tools: request.tools.clone().unwrap_or_default(),
        top_logprobs: request.top_logprobs.unwrap_or(0),
        top_p: request.top_p.unwrap_or(1.0),
        truncation: "disabled".to_owned(),
        usage: None,
        metadata: request.metadata.clone().unwrap_or_default(),
    }
}
