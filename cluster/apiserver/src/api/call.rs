//! One call: the request, who makes it, and what is collected while it is answered.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;

use super::Api;
use crate::auth::User;
use crate::registry::Resource;
use crate::request::{Query, Target};
use crate::status::ApiError;

/// A request for a resource.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) user: User,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    pub(crate) resource: Arc<Resource>,
    /// What the client is told beside the answer.
    pub(crate) warnings: Vec<String>,
}

impl Call {
    pub(crate) fn new(
        api: Arc<Api>,
        user: User,
        target: Target,
        query: Query,
        parts: Parts,
        body: Bytes,
    ) -> Self {
        let resource = Arc::new(Resource::unknown());
        Self {
            api,
            user,
            target,
            query,
            parts,
            body,
            resource,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The name in the path, which every call for one object has.
    pub(crate) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.target.namespace.as_deref()
    }

    /// The key of the object in the path.
    pub(crate) fn key(&self) -> String {
        self.resource.key(self.namespace(), self.name())
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource.group, &self.resource.plural, self.name())
    }

    /// The media type of the body, without parameters.
    pub(crate) fn content_type(&self) -> &str {
        let header = self
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        header
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
    }

    /// The name under which changes are tracked.
    pub(crate) fn field_manager(&self) -> String {
        if let Some(manager) = self.query.get("fieldManager") {
            return manager.to_owned();
        }
        let agent = self
            .headers()
            .get(http::header::USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        if name.is_empty() {
            "unknown".to_owned()
        } else {
            name.to_owned()
        }
    }
}
