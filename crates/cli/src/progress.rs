//! Progress bars, drawn on terminals only.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar from a template of Indicatif.
pub fn bar(template: &str, len: u64) -> ProgressBar {
    ProgressBar::new(len).with_style(style(template))
}

/// Something that turns while a step of unknown length runs.
pub fn spinner(message: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(message.to_owned());
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    spinner
}

/// Columns that the text beside a bar may take.
const TEXT: usize = 50;

/// How all bars look. A line that wraps would leave parts of it behind, so a narrow terminal has short bars.
pub fn style(template: &str) -> ProgressStyle {
    let columns = usize::from(console::Term::stderr().size().1).saturating_sub(TEXT).clamp(4, 30);
    let style = ProgressStyle::with_template(&template.replace("{bar:30}", &format!("{{bar:{columns}.cyan/dim}}")));
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─")
}

/// A bar over bytes; `verb` names the work.
pub fn bytes(verb: &'static str, len: u64) -> ProgressBar {
    bar("{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {eta}", len).with_message(verb)
}
