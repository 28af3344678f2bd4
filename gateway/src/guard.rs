//! Guards: what looks at the texts and tools of requests and answers, and blocks, masks, or only tells.
//!
//! A request passes the guards in their order, each on what the ones before it have left. What was masked in a request is
//! put back into its answer. The texts of streams pass in pieces, so that no more of them waits than may still become a
//! finding. Nothing of a text is ever written to a log or a metric.

#[cfg(any(test, fuzzing))]
pub(crate) mod claims;
mod events;
mod hold;
mod injection;
mod patterns;
mod pii;
mod placeholders;
mod queue;
mod screen;
mod secrets;
mod session;
mod sessions;
mod stream;
mod texts;
mod tools;
mod webhook;

use protocol::{
    secret::SecretString,
    snapshot::{self, Action, GuardRule, Mode, Phases},
};

use self::{injection::Signs, screen::Screen, tools::Tools, webhook::Webhook};
pub(crate) use self::{
    session::{Asker, Services, Session},
    sessions::{Sessions, StreamGuards},
};

/// The guards of a route.
#[derive(Debug)]
pub(crate) struct Guards {
    guards: Vec<Guard>,
    /// Finds placeholders in answers.
    placeholders: Screen,
}

/// One guard.
#[derive(Debug)]
struct Guard {
    name: String,
    on: Phases,
    action: Action,
    mode: Mode,
    rule: Rule,
}

/// What a guard looks for.
#[derive(Debug)]
enum Rule {
    /// Parts of texts.
    Screen {
        screen: Box<Screen>,
        /// Whether what is masked in a request is put back into its answer.
        is_reversible: bool,
    },
    /// Texts of a score.
    Injection { signs: Box<Signs>, threshold: u32 },
    /// Names of tools.
    Tools(Tools),
    /// What a service says.
    Webhook(Box<Webhook>),
}

impl Guards {
    /// Compiles the guards of a route; `None` if there are none.
    ///
    /// # Errors
    /// The name of a guard that cannot be compiled, and why.
    pub(crate) fn compile(entries: &[snapshot::Guard]) -> Result<Option<Self>, (String, String)> {
        if entries.is_empty() {
            return Ok(None);
        }
        let guards = entries.iter().map(|entry| {
            let rule = compile(entry).map_err(|reason| (entry.name.clone(), reason))?;
            Ok(Guard {
                name: entry.name.clone(),
                on: entry.on,
                action: entry.action,
                mode: entry.mode,
                rule,
            })
        });
        let guards = guards.collect::<Result<_, (String, String)>>()?;
        let placeholders = placeholders::screen().map_err(|reason| (String::new(), reason))?;
        Ok(Some(Self {
            guards,
            placeholders,
        }))
    }
}

impl Guards {
    /// Whether a service is asked.
    pub(crate) fn ask_services(&self) -> bool {
        let mut guards = self.guards.iter();
        guards.any(|guard| matches!(guard.rule, Rule::Webhook(_)))
    }
}

impl Guard {
    /// Whether it changes nothing.
    fn only_tells(&self) -> bool {
        self.mode == Mode::Shadow
    }
}

fn compile(entry: &snapshot::Guard) -> Result<Rule, String> {
    let screen = |screen, is_reversible| Rule::Screen {
        screen: Box::new(screen),
        is_reversible,
    };
    Ok(match &entry.rule {
        GuardRule::Regex { patterns } => screen(patterns::screen(&entry.name, patterns)?, false),
        GuardRule::Pii { kinds } => screen(pii::screen(kinds)?, true),
        GuardRule::Secrets => screen(secrets::screen()?, false),
        GuardRule::PromptInjection { threshold } => Rule::Injection {
            signs: Box::new(Signs::compile()?),
            threshold: u32::from(*threshold),
        },
        GuardRule::Tools { allow, deny } => Rule::Tools(Tools::new(allow, deny)),
        GuardRule::Webhook {
            url,
            timeout_millis,
            on_failure,
            secret,
        } => {
            let secret = secret.as_ref().map(SecretString::expose);
            let webhook = Webhook::compile(url, *timeout_millis, *on_failure, secret);
            Rule::Webhook(Box::new(webhook?))
        }
    })
}
