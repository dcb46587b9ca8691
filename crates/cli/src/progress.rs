//! Progress bars, drawn on terminals only.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar from a template of Indicatif.
pub fn bar(template: &str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar over bytes; `verb` names the work.
pub fn bytes(verb: &'static str, len: u64) -> ProgressBar {
    bar("{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {eta}", len).with_message(verb)
}
