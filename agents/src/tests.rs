//! Whole runtimes against a scripted model and a fake workspace, over HTTP.

mod api;
mod chat;
mod crash;
mod fakes;
mod graphs;
mod harness;
mod loops;
mod mcp;
mod operator;
mod random;
