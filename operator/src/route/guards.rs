//! A Route's guards, as the gateway takes them.

use crds::route::{self, GuardAction, GuardPhases, GuardType};
use protocol::snapshot::{
    Action, Guard, GuardRule, PATTERN_BYTES_MAX, PATTERN_LENGTH_MAX, Phases, PiiKind,
};
use regex::RegexBuilder;

use super::{limits::mode, validate::InvalidRoute};

/// The score from which on a text is a prompt injection if the guard does not say.
const THRESHOLD_DEFAULT: u8 = 60;

pub(super) fn guards(guards: &[route::Guard]) -> Result<Vec<Guard>, InvalidRoute> {
    let guards = guards.iter().enumerate();
    guards
        .map(|(index, guard)| {
            let rule = rule(index, guard)?;
            let on_default = match rule {
                GuardRule::PromptInjection { .. } => Phases::Requests,
                _ => Phases::Both,
            };
            Ok(Guard {
                name: guard.name.clone(),
                on: match guard.on {
                    None => on_default,
                    Some(GuardPhases::Both) => Phases::Both,
                    Some(GuardPhases::Requests) => Phases::Requests,
                    Some(GuardPhases::Answers) => Phases::Answers,
                },
                action: match guard.action {
                    None | Some(GuardAction::Block) => Action::Block,
                    Some(GuardAction::Mask) => Action::Mask,
                },
                mode: mode(guard.mode),
                rule,
            })
        })
        .collect()
}

fn rule(index: usize, guard: &route::Guard) -> Result<GuardRule, InvalidRoute> {
    Ok(match guard.r#type {
        GuardType::Regex => {
            let patterns = guard.regex.as_ref().map(|regex| regex.patterns.clone());
            let patterns = patterns.unwrap_or_default();
            for (place, pattern) in patterns.iter().enumerate() {
                check(pattern).map_err(|reason| InvalidRoute::Pattern {
                    path: format!("spec.guards[{index}].regex.patterns[{place}]"),
                    reason,
                })?;
            }
            GuardRule::Regex { patterns }
        }
        GuardType::Pii => {
            let kinds = guard.pii.iter().flat_map(|pii| &pii.kinds);
            GuardRule::Pii {
                kinds: kinds.copied().map(kind).collect(),
            }
        }
        GuardType::Secrets => GuardRule::Secrets,
        GuardType::PromptInjection => {
            let given = guard.prompt_injection.as_ref();
            let threshold = given.and_then(|given| u8::try_from(given.threshold).ok());
            GuardRule::PromptInjection {
                threshold: threshold.unwrap_or(THRESHOLD_DEFAULT),
            }
        }
        GuardType::Tools => {
            let tools = guard.tools.as_ref();
            GuardRule::Tools {
                allow: tools.map(|tools| tools.allow.clone()).unwrap_or_default(),
                deny: tools.map(|tools| tools.deny.clone()).unwrap_or_default(),
            }
        }
    })
}

/// Compiles a pattern as the gateway does.
fn check(pattern: &str) -> Result<(), String> {
    if PATTERN_LENGTH_MAX < pattern.len() {
        return Err(format!("it is longer than {PATTERN_LENGTH_MAX} bytes"));
    }
    let compiled = RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .build();
    let regex = compiled.map_err(|error| error.to_string())?;
    match regex.is_match("") {
        true => Err("it matches the empty text".to_owned()),
        false => Ok(()),
    }
}

fn kind(kind: route::PiiKind) -> PiiKind {
    match kind {
        route::PiiKind::Email => PiiKind::Email,
        route::PiiKind::Phone => PiiKind::Phone,
        route::PiiKind::Iban => PiiKind::Iban,
        route::PiiKind::CreditCard => PiiKind::CreditCard,
        route::PiiKind::IpAddress => PiiKind::IpAddress,
        route::PiiKind::UsSsn => PiiKind::UsSsn,
    }
}
