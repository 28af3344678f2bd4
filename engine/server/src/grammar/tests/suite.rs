//! The JSON Schema test suite: whatever is generated under a schema that can be enforced is valid under it.
