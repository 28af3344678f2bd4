//! A Route's guards, as the gateway takes them.

use std::time::Duration;

use crds::route::{self, GuardAction, GuardPhases, GuardType, WebhookFailure, WebhookGuard};
use protocol::{
    address::{host_of, is_forbidden_host},
    snapshot::{
        Action, Guard, GuardRule, OnFailure, PATTERN_BYTES_MAX, PATTERN_LENGTH_MAX, Phases, PiiKind,
    },
};
use regex::RegexBuilder;

use super::{dereference::World, limits::mode, validate::InvalidRoute};
use crate::{model, quantities::duration};

/// The score from which on a text is a prompt injection if the guard does not say.
const THRESHOLD_DEFAULT: u8 = 60;
/// How long a service may take if the guard does not say.
const TIMEOUT: &str = "2s";
/// The longest that one may take: the request waits for it.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

pub(super) fn guards(guards: &[route::Guard], world: &World) -> Result<Vec<Guard>, InvalidRoute> {
    let guards = guards.iter().enumerate();
    guards
        .map(|(index, guard)| {
            let rule = rule(index, guard, world)?;
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

fn rule(index: usize, guard: &route::Guard, world: &World) -> Result<GuardRule, InvalidRoute> {
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
        GuardType::Webhook => {
            let path = format!("spec.guards[{index}].webhook");
            match &guard.webhook {
                Some(given) => webhook(&path, given, world)?,
                None => return Err(InvalidRoute::NoWebhook { path }),
            }
        }
    })
}

fn webhook(path: &str, given: &WebhookGuard, world: &World) -> Result<GuardRule, InvalidRoute> {
    let url = given.url.clone();
    if host_of(&url).is_none_or(is_forbidden_host) {
        let path = format!("{path}.url");
        return Err(InvalidRoute::Address { path, url });
    }
    let text = given.timeout.as_deref().unwrap_or(TIMEOUT);
    let timeout = duration(text).filter(|timeout| !timeout.is_zero() && *timeout <= TIMEOUT_MAX);
    let timeout = timeout.ok_or_else(|| InvalidRoute::WebhookTimeout {
        path: format!("{path}.timeout"),
        value: text.to_owned(),
    })?;
    let secret = given.secret_ref.as_ref();
    let secret = secret.map(|reference| {
        let path = format!("{path}.secretRef");
        model::credential(reference, &path, &world.secrets)
    });
    Ok(GuardRule::Webhook {
        url,
        timeout_millis: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        on_failure: match given.on_failure {
            None | Some(WebhookFailure::Fail) => OnFailure::Fail,
            Some(WebhookFailure::Ignore) => OnFailure::Ignore,
        },
        // A Route whose questions cannot be signed is not used at all: to leave the guard out would let everything pass.
        secret: secret.transpose()?,
    })
}

/// The Secrets that guards name.
pub(super) fn secret_names(guards: &[route::Guard]) -> impl Iterator<Item = String> {
    let webhooks = guards.iter().filter_map(|guard| guard.webhook.as_ref());
    webhooks.filter_map(|webhook| Some(webhook.secret_ref.as_ref()?.name.clone()))
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
