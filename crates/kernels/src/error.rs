/// Why an instruction set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No instruction set has this name.
    #[error("unknown instruction set `{name}`: expected one of {known}")]
    UnknownIsa {
        name: String,
        /// Names of all instruction sets, separated by commas.
        known: String,
    },
    /// This CPU lacks the instruction set.
    #[error("instruction set `{name}` is missing on this CPU: expected one of {present}")]
    MissingIsa {
        name: String,
        /// Names of the instruction sets that this CPU has, separated by commas.
        present: String,
    },
}
