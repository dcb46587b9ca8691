//! Rewriting model files.
