//! What a Workspace wants, checked.

use crds::{Workspace, WorkspaceTemplate, WorkspaceTemplateSpec, condition::Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use protocol::snapshot::content_hash;
use thiserror::Error;

use super::dereference::World;
use crate::{executor::owned_by, queue::Key};

/// Variables that a workspace sets itself.
const OWN_VARIABLES: [&str; 7] = [
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Why a Workspace cannot run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidWorkspace {
    #[error(
        "spec.templateRef names the WorkspaceTemplate `{name}`, which does not exist in this namespace"
    )]
    NoTemplate { name: String },
    #[error("the WorkspaceTemplate `{name}` is not valid: {fault}")]
    BadTemplate {
        name: String,
        fault: InvalidTemplate,
    },
}

impl InvalidWorkspace {
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::NoTemplate { .. } | Self::BadTemplate { .. } => Reason::RefNotFound,
        }
    }
}

/// Why a WorkspaceTemplate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path}: {problem}")]
pub(crate) struct InvalidTemplate {
    path: String,
    problem: String,
}

/// A Workspace that can run.
#[derive(Debug, Clone)]
pub(crate) struct ValidWorkspace {
    pub(super) key: Key,
    pub(super) owner: OwnerReference,
    pub(super) template: WorkspaceTemplateSpec,
    pub(super) template_hash: String,
}

pub(super) fn validate(
    workspace: &Workspace,
    world: &World,
) -> Result<ValidWorkspace, InvalidWorkspace> {
    let name = &workspace.spec.template_ref.name;
    let template = world
        .template
        .as_deref()
        .filter(|template| template.metadata.deletion_timestamp.is_none());
    let template = template.ok_or_else(|| InvalidWorkspace::NoTemplate { name: name.clone() })?;
    validate_template(template).map_err(|fault| InvalidWorkspace::BadTemplate {
        name: name.clone(),
        fault,
    })?;
    Ok(ValidWorkspace {
        key: Key::of(workspace),
        owner: owned_by(workspace),
        template: template.spec.clone(),
        template_hash: template_hash(template),
    })
}

/// Checks what the schema cannot say about a template.
pub(crate) fn validate_template(template: &WorkspaceTemplate) -> Result<(), InvalidTemplate> {
    match template
        .spec
        .env
        .iter()
        .position(|variable| OWN_VARIABLES.contains(&&*variable.name))
    {
        None => Ok(()),
        Some(index) => Err(InvalidTemplate {
            path: format!("spec.env[{index}].name"),
            problem: format!(
                "{} is set by the workspace itself; remove it",
                template.spec.env[index].name
            ),
        }),
    }
}

/// The hash of what a workspace gets from a template.
pub(crate) fn template_hash(template: &WorkspaceTemplate) -> String {
    content_hash(&template.spec)
}
