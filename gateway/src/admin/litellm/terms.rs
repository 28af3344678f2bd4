//! LiteLLM's words for budgets, limits and models, from and to a specification. Pure.

use jiff::{SignedDuration, Timestamp};
use protocol::{
    allowance::{Budget, Dollars, Limit, Rate, Window},
    snapshot::Mode,
};
use serde_json::{Map, Value, json};

use super::super::request::invalid;
use crate::{fault::Fault, people::Spec};

/// A month of a key's life.
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The time of LiteLLM's rates.
const MINUTE: Window = Window::Every(std::time::Duration::from_secs(60));
/// Words that stand for no restriction of models.
const ALL_MODELS: [&str; 2] = ["all-proxy-models", "all-team-models"];
/// Fields that change nothing here, whatever they say.
const IGNORED: [&str; 12] = [
    "auto_create_key",
    "budget_reset_at",
    "created_by",
    "invite_user",
    "send_invite_email",
    "soft_budget_cooldown",
    "sso_user_id",
    "tpm_limit_type",
    "rpm_limit_type",
    "updated_by",
    "user_info",
    "spend",
];

/// What a script says, field by field, until nothing is left.
pub(super) struct Said(Map<String, Value>);

impl Said {
    /// What is in a body.
    pub(super) fn new(body: Map<String, Value>) -> Self {
        Self(body)
    }

    /// Takes a field; `None` if it is not there, null if it is to be taken away.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// Takes a text.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(_) => Err(invalid(format!("`{name}` is a text."))),
        }
    }

    /// Takes a list of texts.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Fault> {
        let Some(list) = self.take(name) else {
            return Ok(None);
        };
        let list: Option<Vec<String>> = serde_json::from_value(list)
            .map_err(|_| invalid(format!("`{name}` is a list of texts.")))?;
        Ok(Some(list.unwrap_or_default()))
    }

    /// Takes a change of a text of a specification.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn change(&mut self, name: &str, field: &mut Option<String>) -> Result<(), Fault> {
        if self.0.contains_key(name) {
            *field = self.text(name)?;
        }
        Ok(())
    }

    /// Takes what all of keys, teams and users have, and nothing may be left after that.
    ///
    /// # Errors
    /// A field says what cannot be, or what nothing here corresponds to.
    pub(super) fn finish(mut self, spec: &mut Spec, now: Timestamp) -> Result<(), Fault> {
        if let Some(models) = self.texts("models")? {
            let is_all = models
                .iter()
                .any(|model| ALL_MODELS.contains(&model.as_str()));
            spec.models = if is_all { Vec::new() } else { models };
        }
        if let Some(duration) = self.take("duration") {
            spec.expires_at = expiry(&duration, now)?;
        }
        if let Some(blocked) = self.take("blocked") {
            spec.blocked = blocked.as_bool().unwrap_or(false);
        }
        if let Some(metadata) = self.take("metadata") {
            spec.metadata = metadata.as_object().cloned().unwrap_or_default();
        }
        self.budgets(spec)?;
        self.limits(spec)?;
        match self.take("key_type") {
            None | Some(Value::Null) => {}
            Some(kind) if ["default", "llm_api"].iter().any(|known| kind == *known) => {}
            Some(kind) => {
                return Err(invalid(format!(
                    "`key_type` {kind} has no counterpart here."
                )));
            }
        }
        let is_empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(object) => object.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        };
        let left = |(name, value): &(&String, &Value)| {
            !IGNORED.contains(&name.as_str()) && !is_empty(value)
        };
        match self.0.iter().find(left) {
            // What restricts somebody must not be dropped in silence.
            Some((name, _)) => Err(invalid(format!(
                "`{name}` has no counterpart here. Leave it out."
            ))),
            None => Ok(()),
        }
    }

    fn budgets(&mut self, spec: &mut Spec) -> Result<(), Fault> {
        let is_plain = |budget: &Budget, mode: Mode| budget.model.is_none() && budget.mode == mode;
        let hard = spec
            .budgets
            .iter()
            .find(|budget| is_plain(budget, Mode::Enforce));
        let soft = spec
            .budgets
            .iter()
            .find(|budget| is_plain(budget, Mode::Shadow));
        let mut window = hard.or(soft).and_then(|budget| budget.window);
        if let Some(duration) = self.take("budget_duration") {
            window = self::window(&duration)?;
        }
        for (name, mode) in [("max_budget", Mode::Enforce), ("soft_budget", Mode::Shadow)] {
            let known = spec
                .budgets
                .iter()
                .position(|budget| is_plain(budget, mode));
            let amount = match self.take(name) {
                Some(amount) => dollars(name, &amount)?,
                None => known.map(|place| spec.budgets[place].amount),
            };
            if let Some(place) = known {
                spec.budgets.remove(place);
            }
            spec.budgets.extend(amount.map(|amount| Budget {
                amount,
                window,
                model: None,
                mode,
            }));
        }
        let Some(models) = self.take("model_max_budget") else {
            return Ok(());
        };
        spec.budgets.retain(|budget| budget.model.is_none());
        for (model, said) in models.as_object().into_iter().flatten() {
            let amount = ["budget_limit", "max_budget"]
                .iter()
                .find_map(|name| said.get(*name));
            let duration = ["time_period", "budget_duration"]
                .iter()
                .find_map(|name| said.get(*name));
            let window = duration.map(self::window).transpose()?.flatten();
            spec.budgets
                .extend(
                    dollars("model_max_budget", amount.unwrap_or(said))?.map(|amount| Budget {
                        amount,
                        window,
                        model: Some(model.clone()),
                        mode: Mode::Enforce,
                    }),
                );
        }
        Ok(())
    }

    fn limits(&mut self, spec: &mut Spec) -> Result<(), Fault> {
        let plain =
            ["rpm_limit", "tpm_limit", "max_parallel_requests"].map(|name| (name, self.take(name)));
        for (name, value) in plain {
            if let Some(value) = value {
                set_limit(spec, None, name, &value)?;
            }
        }
        for (name, field) in [
            ("model_rpm_limit", "rpm_limit"),
            ("model_tpm_limit", "tpm_limit"),
        ] {
            let Some(models) = self.take(name) else {
                continue;
            };
            for (model, value) in models.as_object().into_iter().flatten() {
                set_limit(spec, Some(model), field, value)?;
            }
        }
        let has_something = |limit: &Limit| {
            limit.requests.is_some() || limit.tokens.is_some() || limit.concurrency.is_some()
        };
        spec.limits.retain(has_something);
        Ok(())
    }
}

fn set_limit(
    spec: &mut Spec,
    model: Option<&String>,
    name: &str,
    value: &Value,
) -> Result<(), Fault> {
    let count = match value {
        Value::Null => None,
        value => Some(
            value
                .as_u64()
                .ok_or_else(|| invalid(format!("`{name}` is a whole number.")))?,
        ),
    };
    let place = spec
        .limits
        .iter()
        .position(|limit| limit.model.as_ref() == model);
    let place = place.unwrap_or_else(|| {
        spec.limits.push(Limit {
            model: model.cloned(),
            ..Limit::default()
        });
        spec.limits.len() - 1
    });
    let limit = &mut spec.limits[place];
    let rate = count.map(|limit| Rate {
        limit,
        window: MINUTE,
    });
    match name {
        "rpm_limit" => limit.requests = rate,
        "tpm_limit" => limit.tokens = rate,
        _ => limit.concurrency = count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
    }
    Ok(())
}

fn dollars(name: &str, value: &Value) -> Result<Option<Dollars>, Fault> {
    if value.is_null() {
        return Ok(None);
    }
    let amount = value.as_f64().and_then(Dollars::from_float);
    amount
        .map(Some)
        .ok_or_else(|| invalid(format!("`{name}` is an amount of US dollars, as 12.5.")))
}

fn window(value: &Value) -> Result<Option<Window>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => {
            let read = text.parse().map(Some);
            read.map_err(|error| invalid(format!("`budget_duration`: {error}.")))
        }
        _ => Err(invalid("`budget_duration` is a time as 30d.")),
    }
}

/// When a key ends that is good for so long; `-1` and null stand for ever.
fn expiry(value: &Value, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) if ["-1", "permanent"].contains(&text.as_str()) => return Ok(None),
        Value::String(text) => text,
        _ => return Err(invalid("`duration` is a time as 30d.")),
    };
    let window: Window = text
        .parse()
        .map_err(|error| invalid(format!("`duration`: {error}.")))?;
    let length = match window {
        Window::Every(length) => SignedDuration::try_from(length).ok(),
        Window::Month => Some(MONTH),
    };
    let ends = length.and_then(|length| now.checked_add(length).ok());
    ends.map(Some)
        .ok_or_else(|| invalid("`duration` is too long."))
}

/// A specification in LiteLLM's words.
pub(super) fn show(spec: &Spec) -> Map<String, Value> {
    let plain = |mode: Mode| {
        let mut budgets = spec.budgets.iter();
        budgets.find(|budget| budget.model.is_none() && budget.mode == mode)
    };
    let (hard, soft) = (plain(Mode::Enforce), plain(Mode::Shadow));
    let window = hard.or(soft).and_then(|budget| budget.window);
    let limit = spec.limits.iter().find(|limit| limit.model.is_none());
    let per_minute = |rate: Option<Rate>| {
        rate.filter(|rate| rate.window == MINUTE)
            .map(|rate| rate.limit)
    };
    let of_models = |amount: fn(&Limit) -> Option<Rate>| -> Map<String, Value> {
        let limits = spec.limits.iter();
        let known = limits
            .filter_map(|limit| Some((limit.model.clone()?, json!(per_minute(amount(limit))?))));
        known.collect()
    };
    let budgets = spec.budgets.iter().filter_map(|budget| {
        let said = json!({"budget_limit": float(budget.amount), "time_period": budget.window});
        Some((budget.model.clone()?, said))
    });
    let fields = json!({
        "models": spec.models,
        "max_budget": hard.map(|budget| float(budget.amount)),
        "soft_budget": soft.map(|budget| float(budget.amount)),
        "budget_duration": window,
        "budget_reset_at": null,
        "model_max_budget": budgets.collect::<Map<_, _>>(),
        "rpm_limit": limit.and_then(|limit| per_minute(limit.requests)),
        "tpm_limit": limit.and_then(|limit| per_minute(limit.tokens)),
        "max_parallel_requests": limit.and_then(|limit| limit.concurrency),
        "model_rpm_limit": of_models(|limit| limit.requests),
        "model_tpm_limit": of_models(|limit| limit.tokens),
        "blocked": spec.blocked,
        "metadata": spec.metadata,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// An amount as LiteLLM's clients read it.
pub(super) fn float(amount: Dollars) -> f64 {
    amount.nanos() as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{Said, show};
    use crate::people::Spec;

    fn read(before: Spec, body: Value) -> Result<Spec, String> {
        let mut spec = before;
        let Value::Object(body) = body else {
            panic!("{body} is no object");
        };
        let said = Said::new(body);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        said.finish(&mut spec, now).map_err(|fault| fault.message)?;
        Ok(spec)
    }

    /// What a script says comes to this specification, and is shown again as it was said.
    #[track_caller]
    fn check(body: impl Into<Value>, expected: impl Into<Value>) {
        let body = body.into();
        let spec = read(Spec::default(), body.clone()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), expected.into());
        let shown = show(&spec);
        for (name, value) in body.as_object().unwrap() {
            if name != "duration" {
                assert_eq!(shown.get(name), Some(value), "{name}");
            }
        }
    }

    #[test]
    fn budgets_and_limits_are_taken_and_shown_in_litellms_words() {
        check(json!({}), json!({"blocked": false}));
        let budget = json!({"max_budget": 10.5, "soft_budget": 8.0, "budget_duration": "30d"});
        let budgets = json!([{"amount": "10.5", "window": "30d"}, {"amount": "8", "window": "30d", "mode": "Shadow"}]);
        check(budget, json!({"blocked": false, "budgets": budgets}));
        let rates = json!({"rpm_limit": 60, "tpm_limit": 1000, "max_parallel_requests": 3, "model_rpm_limit": {"m": 5}});
        let limits = json!([
            {"requests": {"limit": 60, "window": "1m"}, "tokens": {"limit": 1000, "window": "1m"}, "concurrency": 3},
            {"requests": {"limit": 5, "window": "1m"}, "model": "m"}
        ]);
        check(rates, json!({"blocked": false, "limits": limits}));
        let models = json!({"model_max_budget": {"m": {"budget_limit": 1.0, "time_period": "1d"}}, "models": ["m"]});
        let expected = json!({"blocked": false, "models": ["m"], "budgets": [{"amount": "1", "window": "1d", "model": "m"}]});
        check(models, expected);
        let ends =
            json!({"blocked": true, "expires_at": "2026-01-31T00:00:00Z", "metadata": {"a": 1}});
        check(
            json!({"duration": "30d", "blocked": true, "metadata": {"a": 1}}),
            ends,
        );
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let said =
            json!({"max_budget": 10.0, "budget_duration": "1d", "rpm_limit": 60, "tpm_limit": 5});
        let before = read(Spec::default(), said).unwrap();
        let after = read(before, json!({"max_budget": 20.0, "rpm_limit": null})).unwrap();
        let expected = json!({"blocked": false, "budgets": [{"amount": "20", "window": "1d"}],
            "limits": [{"tokens": {"limit": 5, "window": "1m"}}]});
        assert_eq!(serde_json::to_value(after).unwrap(), expected);
    }

    #[test]
    fn what_restricts_and_is_not_known_is_refused_and_what_says_nothing_is_not() {
        let empty = json!({"aliases": {}, "config": {}, "permissions": {}, "guardrails": [], "send_invite_email": true,
            "key_type": "default", "models": ["all-team-models"]});
        assert_eq!(read(Spec::default(), empty).unwrap(), Spec::default());
        for refused in [
            json!({"guardrails": ["pii"]}),
            json!({"allowed_routes": ["/chat/completions"]}),
            json!({"key_type": "management"}),
            json!({"rpm_limit": "many"}),
            json!({"max_budget": -1}),
            json!({"duration": "soon"}),
        ] {
            assert!(read(Spec::default(), refused.clone()).is_err(), "{refused}");
        }
    }
}
