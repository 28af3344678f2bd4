//! Who asks: the administrator's token, a service account's token, or nobody in particular.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{Api, denied};
use crate::auth::tokens::{Bound, Claims, ISSUER};
use crate::auth::{Access, User};
use crate::clock;
use crate::status::ApiError;

impl Api {
    /// The user of a request.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<User, ApiError> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Ok(User::anonymous());
        };
        let token = header.to_str().ok().and_then(|value| value.split_once(' '));
        match token {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => self
                .user_of(token.trim(), ISSUER)
                .ok_or_else(ApiError::unauthorized),
            _ => Err(ApiError::unauthorized()),
        }
    }

    /// Whose token this is, when it is meant for `audience`.
    pub(crate) fn user_of(&self, token: &str, audience: &str) -> Option<User> {
        // Comparing digests takes equally long whatever the tokens have in common.
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        if digest(token).as_ref() == digest(&self.admin_token).as_ref() {
            return (audience == ISSUER).then(User::admin);
        }
        let claims = self.signer.verify(token, clock::unix_seconds())?;
        let for_us = claims.aud.iter().any(|one| one == audience);
        (for_us && self.is_alive(&claims)).then(|| user(&claims))
    }

    /// Whether everything that the token is bound to still exists.
    fn is_alive(&self, claims: &Claims) -> bool {
        let namespace = &claims.kubernetes.namespace;
        let same = |shelf: &str, bound: &Bound| {
            let entry = self
                .store
                .get(shelf, &format!("{namespace}/{}", bound.name));
            entry.is_some_and(|entry| entry.value()["metadata"]["uid"].as_str() == Some(&bound.uid))
        };
        same("/serviceaccounts", &claims.kubernetes.serviceaccount)
            && claims
                .kubernetes
                .pod
                .as_ref()
                .is_none_or(|pod| same("/pods", pod))
            && claims
                .kubernetes
                .secret
                .as_ref()
                .is_none_or(|secret| same("/secrets", secret))
    }

    /// The user that an administrator acts as.
    pub(super) fn impersonate(&self, user: User, headers: &HeaderMap) -> Result<User, ApiError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let groups: Vec<String> = headers
            .get_all("impersonate-group")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect();
        let Some(name) = text("impersonate-user") else {
            if groups.is_empty() && text("impersonate-uid").is_none() {
                return Ok(user);
            }
            return Err(ApiError::bad_request(
                "requested impersonation without impersonating a user",
            ));
        };
        let may = |resource: &str, namespace: Option<&str>, name: &str| {
            let access = Access::Resource {
                verb: "impersonate",
                group: "",
                resource,
                namespace,
                name: Some(name),
            };
            if self.authorizer.allows(&user, access) {
                Ok(())
            } else {
                Err(denied(&user, access))
            }
        };
        let account = name
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'));
        let mut acting = match account {
            Some((namespace, account)) => {
                may("serviceaccounts", Some(namespace), account)?;
                User::service_account(namespace, account, "")
            }
            None => {
                may("users", None, name)?;
                User::new(name, &["system:authenticated"])
            }
        };
        for group in groups {
            may("groups", None, &group)?;
            if !acting.groups.contains(&group) {
                acting.groups.insert(0, group);
            }
        }
        if name == "system:anonymous" {
            acting
                .groups
                .retain(|group| group != "system:authenticated");
        }
        Ok(acting)
    }
}

fn user(claims: &Claims) -> User {
    let kubernetes = &claims.kubernetes;
    let account = &kubernetes.serviceaccount;
    let mut user = User::service_account(&kubernetes.namespace, &account.name, &account.uid);
    let mut extra = |name: &str, value: &str| {
        user.extra.insert(
            format!("authentication.kubernetes.io/{name}"),
            vec![value.to_owned()],
        );
    };
    extra("credential-id", &format!("JTI={}", claims.jti));
    for (kind, bound) in [("pod", &kubernetes.pod), ("node", &kubernetes.node)] {
        if let Some(bound) = bound {
            extra(&format!("{kind}-name"), &bound.name);
            extra(&format!("{kind}-uid"), &bound.uid);
        }
    }
    user
}
