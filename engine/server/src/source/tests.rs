//! Claims about sources.
