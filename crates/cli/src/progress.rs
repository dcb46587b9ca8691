//! Progress bars, which Indicatif draws on terminals only.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that looks like one of Indicatif's templates.
pub fn bar(template: &str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar over bytes with which something is done.
pub fn bytes(verb: &'static str, len: u64) -> ProgressBar {
    bar("{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {eta}", len).with_message(verb)
}
