//! The face of Trine for Rust programs.
