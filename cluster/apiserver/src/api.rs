//! One request, start to end: who asks, what for, whether they may, and the answer.

mod authenticate;
pub(crate) mod call;
mod health;
mod paths;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Access, Authorizer, TokenSigner, User};
use crate::bootstrap;
use crate::documents::Documents;
use crate::pki::Pki;
use crate::registry::{Registry, Verbs};
use crate::request::{Query, Route, Target, Verb, route};
use crate::response::{Body, failure, protobuf_failure, text, warn};
use crate::server::ServeError;
use crate::status::ApiError;
use crate::store::Store;
use crate::strategy::Addresses;
use crate::{connect, reading, reviews, subresources, watching, writing};

use call::Call;

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Registry,
    pub(crate) authorizer: Authorizer,
    pub(crate) signer: TokenSigner,
    pub(crate) addresses: Addresses,
    pub(crate) documents: Documents,
    pub(crate) node_token: String,
    pub(crate) advertise_url: String,
    pub(crate) shutdown: CancellationToken,
    /// Everything that outlives its request.
    pub(crate) tasks: TaskTracker,
    admin_token: String,
    ready: AtomicBool,
}

impl Api {
    /// Loads what the store holds and creates what every cluster has.
    pub(crate) async fn start(
        store: Arc<Store>,
        pki: &Pki,
        advertise_url: &str,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, ServeError> {
        let signer = TokenSigner::new(pki.signing_key()).ok_or_else(|| {
            ServeError::Bootstrap("the token signing key is no P-256 key".to_owned())
        })?;
        let api = Arc::new(Self {
            authorizer: Authorizer::new(Arc::clone(&store)),
            store,
            registry: Registry::new(),
            signer,
            addresses: Addresses::default(),
            documents: Documents::default(),
            node_token: pki.node_token.clone(),
            advertise_url: advertise_url.to_owned(),
            shutdown,
            tasks: TaskTracker::new(),
            admin_token: pki.admin_token.clone(),
            ready: AtomicBool::new(false),
        });
        bootstrap::run(&api)
            .await
            .map_err(|error| ServeError::Bootstrap(error.message))?;
        api.ready.store(true, Ordering::Release);
        Ok(api)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.shutdown.is_cancelled()
    }

    /// Answers a request whose body was read.
    pub(crate) async fn respond(self: &Arc<Self>, parts: Parts, body: Bytes) -> Response<Body> {
        let mut warnings = Vec::new();
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        let accept = parts.headers.get(http::header::ACCEPT);
        let only_protobuf =
            accept.is_some_and(|accept| accept == "application/vnd.kubernetes.protobuf");
        let mut response = match self.answer(parts, body, &mut warnings).await {
            Ok(response) => response,
            Err(error) => {
                if error.code >= 500 && error.code != 504 {
                    tracing::warn!(code = error.code, error = %error.message, "request failed");
                }
                if error.code == 406 && only_protobuf {
                    protobuf_failure(&error)
                } else {
                    failure(&error)
                }
            }
        };
        warn(&mut response, &warnings);
        tracing::debug!(%method, path, status = response.status().as_u16(), "request answered");
        response
    }

    async fn answer(
        self: &Arc<Self>,
        parts: Parts,
        body: Bytes,
        warnings: &mut Vec<String>,
    ) -> Result<Response<Body>, ApiError> {
        let user = self.authenticate(&parts.headers)?;
        let user = self.impersonate(user, &parts.headers)?;
        let query = Query::parse(parts.uri.query());
        match route(&parts.method, parts.uri.path(), &query) {
            Some(Route::Resource(target)) => {
                let mut call = Call::new(Arc::clone(self), user, target, query, parts, body);
                let response = self.resource(&mut call).await;
                warnings.append(&mut call.warnings);
                response
            }
            Some(Route::Path) => {
                self.authorize_path(&user, &parts.method, parts.uri.path())?;
                Ok(self.path(&parts, &query))
            }
            None => Err(ApiError::method_not_allowed("", "", parts.method.as_str())),
        }
    }

    async fn resource(self: &Arc<Self>, call: &mut Call) -> Result<Response<Body>, ApiError> {
        self.authorize(&call.user, &call.target)?;
        let catalog = self.registry.catalog();
        let Target {
            group,
            version,
            plural,
            ..
        } = &call.target;
        let Some(resource) = catalog.resource(group, version, plural) else {
            let known = catalog.has(group, version)
                && catalog
                    .of(group, version)
                    .iter()
                    .all(|one| one.custom().is_none());
            if known {
                return Err(ApiError::no_such_path());
            }
            return Ok(text(StatusCode::NOT_FOUND, "404 page not found\n"));
        };
        call.resource = Arc::clone(resource);
        call.warnings.extend(
            resource
                .custom()
                .and_then(|custom| custom.deprecation.clone()),
        );
        if resource.namespaced
            && call.target.namespace.is_none()
            && !matches!(call.target.verb, Verb::List | Verb::Watch)
        {
            return Err(ApiError::no_such_path());
        }
        if !resource.namespaced && call.target.namespace.is_some() {
            return Err(ApiError::no_such_path());
        }
        if let Some(subresource) = call.target.subresource.clone() {
            return self.subresource(call, &subresource).await;
        }
        if resource.verbs == Verbs::CreateOnly {
            return match call.target.verb {
                Verb::Create if call.target.name.is_none() => reviews::create(call),
                _ => Err(not_allowed()),
            };
        }
        match (call.target.verb, call.target.name.is_some()) {
            (Verb::Get, _) => reading::get(call),
            (Verb::List, _) => reading::list(call),
            (Verb::Watch, _) => watching::watch(call),
            (Verb::Create, false) => writing::create(call).await,
            (Verb::Update, true) => writing::update(call).await,
            (Verb::Patch, true) => writing::patch(call).await,
            (Verb::Delete, _) => writing::delete(call).await,
            (Verb::DeleteCollection, _) if resource.verbs == Verbs::All => {
                writing::delete_collection(call).await
            }
            (Verb::Create, true) if resource.custom().is_some() => {
                writing::refuse_create_by_name(call)
            }
            _ => Err(not_allowed()),
        }
    }

    async fn subresource(
        self: &Arc<Self>,
        call: &mut Call,
        subresource: &str,
    ) -> Result<Response<Body>, ApiError> {
        let resource = Arc::clone(&call.resource);
        if resource.subresource(subresource).is_none() {
            return Err(match (resource.custom(), &call.target.name) {
                (Some(_), Some(name)) => {
                    ApiError::not_found(&resource.group, &resource.plural, name)
                }
                _ => ApiError::no_such_path(),
            });
        }
        match (subresource, call.target.verb) {
            ("status" | "ephemeralcontainers" | "resize", Verb::Get) => reading::get(call),
            ("status" | "ephemeralcontainers" | "resize" | "finalize", Verb::Update) => {
                writing::update(call).await
            }
            ("status" | "ephemeralcontainers" | "resize", Verb::Patch) => {
                writing::patch(call).await
            }
            ("scale", Verb::Get) => subresources::scale::get(call),
            ("scale", Verb::Update | Verb::Patch) => subresources::scale::change(call).await,
            ("token", Verb::Create) => subresources::token::create(call),
            ("binding", Verb::Create) => subresources::binding::create(call).await,
            ("eviction", Verb::Create) => subresources::eviction::create(call).await,
            ("log" | "exec" | "attach" | "portforward", Verb::Get | Verb::Create) => {
                connect::tunnel(call, subresource).await
            }
            _ => Err(not_allowed()),
        }
    }

    fn authorize(&self, user: &User, target: &Target) -> Result<(), ApiError> {
        let resource = match &target.subresource {
            Some(subresource) => format!("{}/{subresource}", target.plural),
            None => target.plural.clone(),
        };
        // A namespace object lies in itself, so that a role inside may show it.
        let own = (target.plural == "namespaces" && target.group.is_empty())
            .then_some(target.name.as_deref())
            .flatten();
        let namespace = target.namespace.as_deref().or(own);
        let name = target.name.as_deref();
        let access = Access::Resource {
            verb: target.verb.name(),
            group: &target.group,
            resource: &resource,
            namespace,
            name,
        };
        if self.authorizer.allows(user, access) {
            return Ok(());
        }
        Err(denied(user, access))
    }

    fn authorize_path(&self, user: &User, method: &Method, path: &str) -> Result<(), ApiError> {
        let verb = method.as_str().to_ascii_lowercase();
        if self
            .authorizer
            .allows(user, Access::Path { verb: &verb, path })
        {
            return Ok(());
        }
        Err(denied(user, Access::Path { verb: &verb, path }))
    }
}

/// 405 for a built-in kind, in the real server's words.
fn not_allowed() -> ApiError {
    let mut error = ApiError::method_not_allowed("", "", "");
    "the server does not allow this method on the requested resource"
        .clone_into(&mut error.message);
    error
}

/// 403 in the real server's words.
pub(crate) fn denied(user: &User, access: Access<'_>) -> ApiError {
    match access {
        Access::Path { verb, path } => {
            let why = format!("User \"{}\" cannot {verb} path \"{path}\"", user.name);
            ApiError::forbidden("", "", "", &why)
        }
        Access::Resource {
            verb,
            group,
            resource,
            namespace,
            name,
        } => {
            let place = namespace.map_or_else(
                || "at the cluster scope".to_owned(),
                |namespace| format!("in the namespace \"{namespace}\""),
            );
            let why = format!(
                "User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}",
                user.name
            );
            let plural = resource.split('/').next().unwrap_or(resource);
            ApiError::forbidden(group, plural, name.unwrap_or_default(), &why)
        }
    }
}
