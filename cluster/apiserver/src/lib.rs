//! A Kubernetes API over an embedded store, for any kind.
//!
//! [`serve`] is the whole server; [`Pki`] makes its keys and the administrator's kubeconfig; [`Store`] is the store alone.
//! Kinds are entries of a registry, not handlers; what they do beyond their schema is in `strategy`.
//!
//! Not here: admission webhooks, aggregated API servers, `/openapi/v2`, client certificates, SPDY for exec, conversion
//! webhooks, `/proxy` subresources. Resource quotas and limit ranges are stored and not
//! enforced; pods get the priority of their class, but nothing is evicted for it.

mod api;
mod auth;
mod bootstrap;
mod clock;
mod connect;
mod definitions;
mod discovery;
mod documents;
mod events;
mod house;
pub mod machinery;
mod names;
mod negotiate;
pub mod pki;
mod present;
mod reading;
mod registry;
mod request;
mod response;
mod reviews;
mod selection;
mod server;
pub mod status;
pub mod store;
mod strategy;
mod subresources;
mod values;
mod watching;
mod writing;

pub use pki::{Pki, PkiError};
pub use server::{ServeError, ServerConfig, serve};
pub use store::Store;

#[cfg(test)]
mod api_tests;
#[cfg(test)]
mod definition_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod server_tests;
