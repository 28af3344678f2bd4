//! Claims about safetensors files.
