//! How models differ, and the one decoder that runs them all.
