//! Conversations as strict APIs want them: what the model is told first apart, then users and models by turns.

use std::collections::HashMap;

use super::conversation::{Message, Part, PartKind, Role};

/// A conversation by turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// What the model is told before the conversation.
    pub(super) system: Vec<Part>,
    /// Users and models in turn; none is empty.
    pub(super) messages: Vec<Message>,
}

/// Joins successive messages of one role, moves what is said by nobody to the front, and leaves out parts that
/// `is_said` does not know. Results of calls come before anything else that the user says.
pub(super) fn by_turns(messages: Vec<Message>, is_said: impl Fn(&PartKind) -> bool) -> Turns {
    let mut turns = Turns::default();
    for mut message in messages {
        message.parts.retain(|part| is_said(&part.kind));
        if message.role == Role::System {
            turns.system.append(&mut message.parts);
            continue;
        }
        match turns.messages.last_mut() {
            Some(last) if last.role == message.role => last.parts.append(&mut message.parts),
            _ if message.parts.is_empty() => {}
            _ => turns.messages.push(message),
        }
    }
    for message in &mut turns.messages {
        if message.role == Role::User {
            let is_result = |part: &Part| matches!(part.kind, PartKind::CallResult(_));
            message.parts.sort_by_key(|part| !is_result(part));
        }
    }
    turns
}

/// The names of the tools that were called, by the calls' ids.
pub(super) fn names_of_calls(messages: &[Message]) -> HashMap<String, String> {
    let parts = messages.iter().flat_map(|message| &message.parts);
    let calls = parts.filter_map(|part| match &part.kind {
        PartKind::Call(call) => Some((call.id.clone(), call.name.clone())),
        _ => None,
    });
    calls.collect()
}

/// Whether a part says something: empty texts do not, and thoughts only with their maker's proof.
pub(super) fn is_said(kind: &PartKind) -> bool {
    match kind {
        PartKind::Text(text) | PartKind::Refusal(text) => !text.is_empty(),
        PartKind::Thinking(thinking) => thinking.signature.is_some(),
        PartKind::Image { .. }
        | PartKind::Document(_)
        | PartKind::Audio { .. }
        | PartKind::Call(_)
        | PartKind::CallResult(_)
        | PartKind::Redacted(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, Part, PartKind, Role, by_turns, is_said};

    fn said(role: Role, text: &str) -> Message {
        let parts = vec![Part::new("", PartKind::Text(text.to_owned()))];
        Message { role, parts }
    }

    #[track_caller]
    fn check(messages: &[(Role, &str)], system: &str, expected: &[(Role, &str)]) {
        let messages = messages.iter().map(|(role, text)| said(*role, text));
        let turns = by_turns(messages.collect(), is_said);
        let text = |parts: &[Part]| {
            let texts = parts.iter().map(|part| match &part.kind {
                PartKind::Text(text) => text.as_str(),
                _ => "?",
            });
            texts.collect::<Vec<_>>().join(" ")
        };
        let seen: Vec<_> = turns
            .messages
            .iter()
            .map(|message| (message.role, text(&message.parts)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(role, text)| (*role, (*text).to_owned()))
            .collect();
        assert_eq!((text(&turns.system).as_str(), seen), (system, expected));
    }

    #[test]
    fn users_and_models_take_turns_and_nobody_says_nothing() {
        use Role::{Assistant, System, User};
        check(&[(User, "a"), (User, "b")], "", &[(User, "a b")]);
        check(
            &[
                (System, "s"),
                (User, "a"),
                (Assistant, ""),
                (User, "b"),
                (System, "t"),
            ],
            "s t",
            &[(User, "a b")],
        );
        check(&[(Assistant, "x")], "", &[(Assistant, "x")]);
        check(&[], "", &[]);
    }
}
