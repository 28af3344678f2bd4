//! The web pages, compiled into the binary.
