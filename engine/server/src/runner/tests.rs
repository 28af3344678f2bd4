//! Claims about the step loop.
