//! The small set of standard controllers that a stack needs.
//!
//! Each controller decides with values (a pure `plan` or `decide`) and acts through one thin executor. They share
//! watched caches, react to changes, poll nothing, and write nothing while nothing changes. Not done here:
//! scheduling (the node binds its Pods), DaemonSets, CronJobs, the Endpoints mirror.

mod api;
mod cache;
mod conditions;
mod deployment;
mod endpoint_slice;
mod expectations;
mod garbage;
mod inventory;
mod job;
mod journal;
mod names;
mod namespace;
mod owners;
mod pods;
mod queue;
mod replica_set;
mod run;
mod service_account;
mod stateful_set;
mod volume_claim;
mod worker;

pub use run::{ControllersConfig, ControllersError, run};
