//! One Pod: what it wants, what is observed, what is decided, and the worker that carries it out.

pub(crate) mod backoff;
pub(crate) mod conditions;
pub(crate) mod decide;
pub(crate) mod observed;
pub(crate) mod qos;
pub(crate) mod restore;
pub(crate) mod status;
pub(crate) mod wanted;

pub(crate) mod lifecycle;
pub(crate) mod start;
pub(crate) mod table;
pub(crate) mod worker;
