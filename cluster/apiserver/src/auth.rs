//! Who asks, and whether they may: tokens, users and role-based access.

pub(crate) mod defaults;
pub(crate) mod rbac;
pub(crate) mod tokens;
pub(crate) mod user;

pub(crate) use rbac::{Access, Authorizer};
pub(crate) use tokens::TokenSigner;
pub(crate) use user::User;
