//! What LiteLLM tells of budgets and deployments: found out when somebody asks, from what is there already.

use std::{collections::HashSet, sync::atomic::AtomicU64, time::Instant};

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use telemetry::metrics::Registry;

use crate::{
    endpoint::{Cooled, Endpoint, Standing},
    limits::{BudgetLeft, budget_left},
    people::{Kind, Parties, People},
    table::{Route, Table, Target},
};

/// Keys whose budgets are told.
const KEYS_MAX: usize = 10_000;
/// Teams whose budgets are told.
const TEAMS_MAX: usize = 10_000;

/// How a deployment stands.
const HEALTHY: i64 = 0;
const PARTIAL_OUTAGE: i64 = 1;
const OUTAGE: i64 = 2;

/// The hash of a key, which LiteLLM tells too, is left out: who may read metrics could try keys against it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    api_key_alias: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TeamLabels {
    team: String,
    team_alias: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeploymentLabels {
    litellm_model_name: String,
    model_id: String,
    api_base: String,
    api_provider: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CooledLabels {
    #[prometheus(flatten)]
    deployment: DeploymentLabels,
    exception_status: &'static str,
}

type Dollars<Labels> = Family<Labels, Gauge<f64, AtomicU64>>;

/// The series.
#[derive(Debug, Default)]
pub(super) struct StateSeries {
    key_left: Dollars<KeyLabels>,
    key_most: Dollars<KeyLabels>,
    team_left: Dollars<TeamLabels>,
    team_most: Dollars<TeamLabels>,
    states: Family<DeploymentLabels, Gauge>,
    cooled: Family<CooledLabels, Counter>,
}

/// What is told of.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    /// Routes, and keys that are declared.
    pub(crate) table: &'a Table,
    /// Keys that were made at run time.
    pub(crate) people: &'a People,
    /// Teams.
    pub(crate) parties: &'a Parties,
}

impl StateSeries {
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self {
            key_left,
            key_most,
            team_left,
            team_most,
            states,
            cooled,
        } = self;
        registry.register(
            "litellm_remaining_api_key_budget_metric",
            "US dollars that are left of a key's budget",
            key_left.clone(),
        );
        registry.register(
            "litellm_api_key_max_budget_metric",
            "US dollars of a key's budget",
            key_most.clone(),
        );
        registry.register(
            "litellm_remaining_team_budget_metric",
            "US dollars that are left of a team's budget",
            team_left.clone(),
        );
        registry.register(
            "litellm_team_max_budget_metric",
            "US dollars of a team's budget",
            team_most.clone(),
        );
        registry.register(
            "litellm_deployment_state",
            "How an upstream stands: 0 takes requests, 1 takes some, 2 takes none",
            states.clone(),
        );
        registry.register(
            "litellm_deployment_cooled_down",
            "How often an upstream was left out",
            cooled.clone(),
        );
    }

    /// Notes how all stands now.
    pub(super) fn set(&self, known: &Known<'_>) {
        self.set_keys(known);
        self.set_teams(known.parties);
        self.states.clear();
        self.cooled.clear();
        let now = Instant::now();
        // A route with patterns has an entry for each, with the same targets.
        let mut seen = HashSet::new();
        let routes = known.table.routes.iter();
        for route in routes.filter(|route| seen.insert(&route.id)) {
            for target in &route.targets {
                for endpoint in &target.endpoints {
                    self.set_deployment((route, target, endpoint), now);
                }
            }
        }
    }

    fn set_keys(&self, known: &Known<'_>) {
        self.key_left.clear();
        self.key_most.clear();
        let now = Timestamp::now();
        let made = known.people.keys();
        let keys = known.table.keys().chain(made.iter().map(|key| &**key));
        let budgets = keys.filter_map(|key| {
            let rules = key.terms.as_ref()?.rules();
            Some((&key.id, budget_left(rules, now)?))
        });
        for (id, budget) in budgets.take(KEYS_MAX) {
            let labels = KeyLabels {
                api_key_alias: id.clone(),
            };
            note(&self.key_left, &self.key_most, &labels, budget);
        }
    }

    fn set_teams(&self, parties: &Parties) {
        self.team_left.clear();
        self.team_most.clear();
        let now = Timestamp::now();
        let teams = parties.all(Kind::Team);
        let budgets = teams
            .into_iter()
            .filter_map(|(id, team)| Some((id, budget_left(&team.standing().rules, now)?)));
        for (id, budget) in budgets.take(TEAMS_MAX) {
            let labels = TeamLabels {
                team: id.clone(),
                team_alias: id,
            };
            note(&self.team_left, &self.team_most, &labels, budget);
        }
    }

    fn set_deployment(
        &self,
        (route, target, endpoint): (&Route, &Target, &Endpoint),
        now: Instant,
    ) {
        let deployment = DeploymentLabels {
            litellm_model_name: target.model.clone(),
            model_id: format!("{}/{}", route.id, target.name),
            api_base: shown(endpoint.url()),
            api_provider: target.provider.name(),
        };
        let state = state(endpoint.standing(now));
        self.states.get_or_create(&deployment).set(state);
        let Cooled {
            failures,
            rate_limits,
            refusals,
        } = endpoint.cooled();
        for (exception_status, count) in
            [("500", failures), ("429", rate_limits), ("401", refusals)]
        {
            if 0 < count {
                let labels = CooledLabels {
                    deployment: deployment.clone(),
                    exception_status,
                };
                self.cooled.get_or_create(&labels).inc_by(count);
            }
        }
    }
}

fn note<Labels>(left: &Dollars<Labels>, most: &Dollars<Labels>, labels: &Labels, budget: BudgetLeft)
where
    Labels: Clone + std::hash::Hash + Eq,
{
    left.get_or_create(labels).set(budget.left.as_dollars());
    most.get_or_create(labels).set(budget.most.as_dollars());
}

/// A URL without what lets somebody in.
fn shown(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else {
        return String::new();
    };
    if parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none() {
        return url.to_owned();
    }
    // A URL that can have no user has none.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.set_query(None);
    parsed.into()
}

const fn state(standing: Standing) -> i64 {
    match standing {
        Standing::Usable => HEALTHY,
        Standing::Probing | Standing::RateLimited { .. } => PARTIAL_OUTAGE,
        Standing::Ejected | Standing::Unauthorized => OUTAGE,
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_url_is_shown_without_what_lets_somebody_in() {
        let check = |url: &str, expected: &str| assert_eq!(shown(url), expected);
        check("http://10.0.0.1:8000/v1", "http://10.0.0.1:8000/v1");
        check("http://10.0.0.1:8000", "http://10.0.0.1:8000");
        check("https://me:word@host/v1", "https://host/v1");
        check("https://me@host/v1?key=word", "https://host/v1");
        check("no url", "");
    }
}
