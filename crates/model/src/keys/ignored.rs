//! Keys that nothing computed here depends on.

/// Keys that change nothing.
#[derive(Debug)]
pub struct IgnoredKeys {
    pub keys: &'static [&'static str],
    /// Why they change nothing.
    pub reason: &'static str,
}
