//! The user's commands, one file each.

pub(crate) mod apply;
pub(crate) mod chat;
pub(crate) mod console;
pub(crate) mod exec;
pub(crate) mod gateway;
pub(crate) mod logs;
pub(crate) mod quickstart;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod up;
