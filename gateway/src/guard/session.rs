//! One request and its answer on their way through a route's guards.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{
    openai::ErrorKind,
    snapshot::{Action, Mode},
};
use tracing::info;

use super::{
    Guard, Guards, Rule,
    hold::{self, Blocked, Verdict},
    placeholders::{self, Placeholders},
    screen::{Finding, Screen},
    stream::StreamGuard,
    texts::{self, Found, Origin, Text},
};
use crate::{
    call::{Call, Operation},
    decode::{Edit, splice},
    fault::Fault,
    metrics::Metrics,
    upstream::Upstream,
};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Request,
    Answer,
}

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) guards: Arc<Guards>,
    pub(super) placeholders: Placeholders,
    pub(super) route: String,
    pub(super) request_id: String,
    metrics: Arc<Metrics>,
    /// How services are asked, if there are any.
    pub(super) services: Option<Box<Services>>,
}

/// How the services of guards are asked.
#[derive(Debug)]
pub(crate) struct Services {
    /// Who asks for what.
    pub(crate) asker: Asker,
    /// The client.
    pub(crate) client: Upstream,
}

/// Who asks for what, as services are told.
#[derive(Debug)]
pub(crate) struct Asker {
    /// The model's name.
    pub(crate) model: String,
    /// The key's account.
    pub(crate) key: String,
    /// The key's team.
    pub(crate) team: Option<String>,
    /// The key's user.
    pub(crate) user: Option<String>,
}

/// A guard of texts at its work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) guard: &'a Guard,
    pub(super) phase: Phase,
    pub(super) screen: &'a Screen,
}

/// Why the texts of a body do not pass.
enum Stop {
    Blocked,
    Unreadable,
}

impl Phase {
    const fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }

    /// Whether a guard looks at it.
    fn is_of(self, guard: &Guard) -> bool {
        match self {
            Self::Request => guard.on.has_requests(),
            Self::Answer => guard.on.has_answers(),
        }
    }

    /// What a body says.
    fn find(self, body: &[u8]) -> Result<Found, Fault> {
        let found = match self {
            Self::Request => texts::in_request(body),
            Self::Answer => texts::in_answer(body),
        };
        found.map_err(|_| self.unreadable())
    }

    pub(super) fn blocked(self, guard: &str) -> Fault {
        let message = match self {
            Self::Request => format!("The guard `{guard}` of this route refuses the request."),
            Self::Answer => format!("The guard `{guard}` of this route withholds the answer."),
        };
        Fault::new(ErrorKind::ContentPolicy, message)
    }

    pub(super) fn unjudged(self, guard: &str) -> Fault {
        let what = match self {
            Self::Request => "request",
            Self::Answer => "answer",
        };
        let message = format!(
            "The guard `{guard}` of this route cannot judge the {what} now. Try again later."
        );
        Fault::new(ErrorKind::Unavailable, message)
    }

    pub(super) fn unreadable(self) -> Fault {
        match self {
            Self::Request => Fault::new(
                ErrorKind::InvalidRequest,
                "The request holds a text that the guards of this route cannot read.",
            ),
            Self::Answer => Fault::new(
                ErrorKind::UpstreamFailed,
                "The answer holds a text that the guards of this route cannot read.",
            ),
        }
    }
}

impl Session {
    /// Begins a request.
    pub(crate) fn new(
        guards: &Arc<Guards>,
        route: &str,
        call: &Call,
        metrics: &Arc<Metrics>,
        services: Option<Box<Services>>,
    ) -> Self {
        Self {
            guards: Arc::clone(guards),
            placeholders: Placeholders::default(),
            route: route.to_owned(),
            request_id: call.id.clone(),
            metrics: Arc::clone(metrics),
            services,
        }
    }

    /// Looks at a request; what is to be sent in its place.
    ///
    /// # Errors
    /// It is blocked.
    pub(crate) async fn request(&mut self, body: &Bytes) -> Result<Bytes, Fault> {
        if !self
            .guards
            .guards
            .iter()
            .any(|guard| guard.on.has_requests())
        {
            return Ok(body.clone());
        }
        let (body, _) = self.pass_all(Phase::Request, body.clone()).await?;
        Ok(body)
    }

    /// All guards of a phase on one body; what is left of it, and what that says.
    async fn pass_all(&mut self, phase: Phase, mut body: Bytes) -> Result<(Bytes, Found), Fault> {
        let guards = Arc::clone(&self.guards);
        let mut found = phase.find(&body)?;
        if self.hides_chances(phase) && !found.chances.is_empty() {
            body = splice(&body, found.hide_chances(&body));
            found = phase.find(&body)?;
        }
        for guard in guards.guards.iter().filter(|guard| phase.is_of(guard)) {
            let passed = self.pass(guard, phase, &body, &found).await?;
            if passed != body {
                found = phase.find(&passed)?;
                body = passed;
            }
        }
        Ok((body, found))
    }

    /// Whether the chances of tokens would tell what is masked, or what a mask stands for.
    pub(super) fn hides_chances(&self, phase: Phase) -> bool {
        let masks = |guard: &Guard| {
            let may_mask = match guard.rule {
                Rule::Screen { .. } => guard.action == Action::Mask,
                // Its service says so each time.
                Rule::Webhook(_) => true,
                Rule::Injection { .. } | Rule::Tools(_) => false,
            };
            may_mask && !guard.only_tells() && phase.is_of(guard)
        };
        let is_undone = phase == Phase::Answer && !self.placeholders.is_empty();
        is_undone || self.guards.guards.iter().any(masks)
    }

    /// Whether anything looks at the answer to such a request.
    pub(super) fn looks_at(&self, operation: Operation) -> bool {
        let says_text = matches!(
            operation,
            Operation::Chat | Operation::Completion | Operation::Response | Operation::Message
        );
        let mut guards = self.guards.guards.iter();
        says_text && (!self.placeholders.is_empty() || guards.any(|guard| guard.on.has_answers()))
    }

    /// Looks at a whole answer; what is to be passed on in its place.
    ///
    /// # Errors
    /// It is withheld.
    pub(super) async fn answer(
        &mut self,
        operation: Operation,
        body: Bytes,
    ) -> Result<Bytes, Fault> {
        if !self.looks_at(operation) {
            return Ok(body);
        }
        let (body, found) = self.pass_all(Phase::Answer, body).await?;
        if self.placeholders.is_empty() {
            return Ok(body);
        }
        let guards = Arc::clone(&self.guards);
        self.edit(
            &guards.placeholders,
            &body,
            &found.texts,
            &mut |session, text, finding, found| session.unmask(text.is_json, finding, found),
        )
        .map_err(|_| Phase::Answer.unreadable())
    }

    /// Looks at the answer's events.
    pub(super) fn into_stream(self, operation: Operation) -> StreamGuard {
        StreamGuard::new(self, operation)
    }

    /// One guard on one body; a service is waited for.
    async fn pass(
        &mut self,
        guard: &Guard,
        phase: Phase,
        body: &Bytes,
        found: &Found,
    ) -> Result<Bytes, Fault> {
        let Rule::Webhook(webhook) = &guard.rule else {
            return self.apply(guard, phase, body, found);
        };
        let decode = |text: &Text| texts::decode(&body[text.range.clone()]);
        let shown: Result<Vec<_>, _> = found.texts.iter().map(decode).collect();
        let shown = shown.map_err(|_| phase.unreadable())?;
        let Some(changed) = self.consult((guard, webhook), phase, &shown).await? else {
            return Ok(body.clone());
        };
        let changed = found.texts.iter().zip(shown).zip(changed);
        let changed = changed.filter(|((_, old), new)| old != new);
        let edits = changed.map(|((text, _), new)| Edit {
            range: text.range.clone(),
            replacement: quote(&new),
        });
        Ok(splice(body, edits.collect()))
    }

    /// One guard on one body.
    fn apply(
        &mut self,
        guard: &Guard,
        phase: Phase,
        body: &Bytes,
        found: &Found,
    ) -> Result<Bytes, Fault> {
        match &guard.rule {
            Rule::Screen {
                screen,
                is_reversible,
            } => {
                let is_numbered = *is_reversible && phase == Phase::Request;
                let numbered = is_numbered.then_some(&body[..]);
                let watch = Watch {
                    guard,
                    phase,
                    screen,
                };
                let edited = self.edit(
                    screen,
                    body,
                    &found.texts,
                    &mut |session, _, finding, text| session.judge(&watch, finding, text, numbered),
                );
                edited.map_err(|stop| match stop {
                    Stop::Blocked => phase.blocked(&guard.name),
                    Stop::Unreadable => phase.unreadable(),
                })
            }
            Rule::Injection { signs, threshold } => {
                let is_asked =
                    |text: &&Text| phase == Phase::Answer || text.origin == Origin::Outside;
                for text in found.texts.iter().filter(is_asked) {
                    let text =
                        texts::decode(&body[text.range.clone()]).map_err(|_| phase.unreadable())?;
                    if *threshold <= signs.score(&text) {
                        self.block(guard, phase, "PROMPT_INJECTION")?;
                        break;
                    }
                }
                Ok(body.clone())
            }
            Rule::Tools(tools) => {
                for name in &found.tools {
                    self.check_tool(guard, phase, tools.allows(name))?;
                }
                Ok(body.clone())
            }
            // It is waited for elsewhere.
            Rule::Webhook(_) => Ok(body.clone()),
        }
    }

    /// Refuses a tool that is not allowed.
    pub(super) fn check_tool(
        &self,
        guard: &Guard,
        phase: Phase,
        is_allowed: bool,
    ) -> Result<(), Fault> {
        match is_allowed {
            true => Ok(()),
            false => self.block(guard, phase, "TOOL"),
        }
    }

    /// Blocks, unless the guard only tells.
    fn block(&self, guard: &Guard, phase: Phase, kind: &str) -> Result<(), Fault> {
        match guard.mode {
            Mode::Enforce => {
                self.tell(guard, phase, kind, "blocked");
                Err(phase.blocked(&guard.name))
            }
            Mode::Shadow => {
                self.tell(guard, phase, kind, "shadow");
                Ok(())
            }
        }
    }

    /// Edits the texts of a body.
    fn edit(
        &mut self,
        screen: &Screen,
        body: &Bytes,
        texts: &[Text],
        judge: &mut dyn FnMut(&mut Self, &Text, &Finding, &str) -> Verdict,
    ) -> Result<Bytes, Stop> {
        let mut edits = Vec::new();
        for text in texts {
            let decoded = texts::decode(&body[text.range.clone()]).map_err(|_| Stop::Unreadable)?;
            let mut judge = |finding: &Finding, found: &str| judge(self, text, finding, found);
            let changed = hold::whole(screen, &decoded, &mut judge);
            if let Some(changed) = changed.map_err(|Blocked| Stop::Blocked)? {
                edits.push(Edit {
                    range: text.range.clone(),
                    replacement: quote(&changed),
                });
            }
        }
        Ok(splice(body, edits))
    }

    /// What becomes of a finding. A mask is numbered, so that it can be undone, if the request's body is given.
    pub(super) fn judge(
        &mut self,
        watch: &Watch<'_>,
        finding: &Finding,
        found: &str,
        numbered: Option<&[u8]>,
    ) -> Verdict {
        let Watch {
            guard,
            phase,
            screen,
        } = *watch;
        let kind = placeholders::kind(screen, finding);
        let (verdict, effect) = match (guard.mode, guard.action) {
            (Mode::Shadow, _) => (Verdict::Keep, "shadow"),
            (Mode::Enforce, Action::Block) => (Verdict::Block, "blocked"),
            (Mode::Enforce, Action::Mask) => {
                let mask = match numbered {
                    Some(body) => self.placeholders.of(kind, found, body),
                    None => placeholders::bare(kind),
                };
                (Verdict::Replace(mask), "masked")
            }
        };
        self.tell(guard, phase, kind, effect);
        verdict
    }

    /// Puts back what was masked.
    pub(super) fn unmask(&self, is_json: bool, _: &Finding, placeholder: &str) -> Verdict {
        match self.placeholders.text(placeholder) {
            None => Verdict::Keep,
            Some(text) if is_json => {
                let quoted = quote(text);
                let inner = quoted.get(1..quoted.len().saturating_sub(1));
                Verdict::Replace(inner.unwrap_or_default().to_owned())
            }
            Some(text) => Verdict::Replace(text.to_owned()),
        }
    }

    pub(super) fn tell(&self, guard: &Guard, phase: Phase, kind: &str, effect: &'static str) {
        self.metrics
            .count_guard(&self.route, &guard.name, phase.word(), effect);
        info!(
            request_id = self.request_id,
            route = self.route,
            guard = guard.name,
            phase = phase.word(),
            kind,
            effect,
            "a guard found something"
        );
    }
}

/// A text as a string of JSON.
pub(super) fn quote(text: &str) -> String {
    // Strings serialise without fail.
    serde_json::to_string(text).unwrap_or_default()
}
