//! Whose tokens a Route takes, as the gateway takes it.

use std::sync::Arc;

use crds::{
    Route,
    route::{self, Auth},
};
use protocol::{
    address::{host_of, is_forbidden_host},
    snapshot::{Jwt, TokenIssuer},
};

use super::{dereference::World, validate::InvalidRoute};
use crate::queue::Key;

/// The claim with the user, if a Route does not say.
const USER_CLAIM: &str = "sub";
/// The claim with the team, if a Route does not say.
const TEAM_CLAIM: &str = "team";

pub(super) fn jwt(auth: Option<&Auth>, world: &World) -> Result<Option<Jwt>, InvalidRoute> {
    let Some(jwt) = auth.and_then(|auth| auth.jwt.as_ref()) else {
        return Ok(None);
    };
    if let Some(route) = &world.contradicted {
        return Err(InvalidRoute::Contradicted {
            route: route.clone(),
        });
    }
    check("spec.auth.jwt.issuer", &jwt.issuer)?;
    if let Some(url) = &jwt.keys_url {
        check("spec.auth.jwt.keysURL", url)?;
    }
    Ok(Some(Jwt {
        issuer: issuer(jwt),
        teams: jwt.teams.clone(),
    }))
}

fn check(path: &str, url: &str) -> Result<(), InvalidRoute> {
    match host_of(url).is_none_or(is_forbidden_host) {
        true => Err(InvalidRoute::Address {
            path: path.to_owned(),
            url: url.to_owned(),
        }),
        false => Ok(()),
    }
}

fn issuer(jwt: &route::Jwt) -> TokenIssuer {
    let or = |claim: &Option<String>, default: &str| claim.as_deref().unwrap_or(default).to_owned();
    TokenIssuer {
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        keys_url: jwt.keys_url.clone(),
        user_claim: or(&jwt.user_claim, USER_CLAIM),
        team_claim: or(&jwt.team_claim, TEAM_CLAIM),
    }
}

/// The oldest Route that names the same issuer and audience, if it says something else of them.
///
/// Who comes later must not be able to say where another's issuer publishes its keys, nor to get others refused.
pub(super) fn contradicted(route: &Route, others: &[Arc<Route>]) -> Option<String> {
    let named = |route: &Route| route.spec.auth.as_ref()?.jwt.as_ref().map(issuer);
    let age = |route: &Route| (route.metadata.creation_timestamp.clone(), Key::of(route));
    let (ours, age_of_ours) = (named(route)?, age(route));
    let names_it =
        |other: &TokenIssuer| (&other.issuer, &other.audience) == (&ours.issuer, &ours.audience);
    let namesakes = others
        .iter()
        .filter(|other| named(other).is_some_and(|other| names_it(&other)));
    let oldest = namesakes.min_by_key(|other| age(other))?;
    let is_contradicted = age(oldest) < age_of_ours && named(oldest).as_ref() != Some(&ours);
    let Key { namespace, name } = Key::of(&**oldest);
    is_contradicted.then(|| format!("{namespace}/{name}"))
}
