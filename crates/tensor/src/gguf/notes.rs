//! How type numbers with several meanings were resolved, for the user.

/// Decisions about a file that could be read in several ways, each with its reason.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Decisions that something in the file proves.
    pub decided: Vec<String>,
    /// Assumptions: the usual choice where nothing in the file proves one.
    pub assumed: Vec<String>,
}
