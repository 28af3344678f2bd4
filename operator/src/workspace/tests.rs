//! A Workspace, without a client.
