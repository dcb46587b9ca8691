//! Lines for people on stderr, coloured as clap's on a terminal.

use console::{Style, style};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// Whether lines are events of the log, which are JSON.
static LOGGED: AtomicBool = AtomicBool::new(false);

/// Starts the log on stderr, with the events that `RUST_LOG` asks for: errors without it, or in JSON all that operators want to know. As JSON,
/// what else is printed on stderr is logged, too.
pub fn start_log(json: bool) {
    LOGGED.store(json, Relaxed);
    let level = if json { LevelFilter::INFO } else { LevelFilter::ERROR };
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        asked.split(',').partition(|part| part.is_empty() || part.parse::<Directive>().is_ok());
    let filter = EnvFilter::builder().with_default_directive(level.into()).parse_lossy(known.join(","));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    if json {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    } else {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        log.with_ansi(colour).init();
    }
    for part in unknown {
        note!("warning: RUST_LOG: expected a level, or TARGET=LEVEL, found `{part}`, which is ignored");
    }
}

/// Whether lines are events of a log in JSON.
pub fn is_json() -> bool {
    LOGGED.load(Relaxed)
}

/// Logs a line with the level that its label has.
fn log(line: &str) {
    match line.split_once(": ") {
        Some(("error", rest)) => tracing::error!("{rest}"),
        Some(("warning", rest)) => tracing::warn!("{rest}"),
        Some(("note" | "hint", rest)) => tracing::info!("{rest}"),
        _ => tracing::info!("{line}"),
    }
}

/// What a line may begin with, and its style, which is clap's where clap has one.
fn label(name: &str) -> Option<Style> {
    let style = Style::new().for_stderr().bold();
    match name {
        "error" => Some(style.red()),
        "warning" => Some(style.yellow()),
        "hint" => Some(style.green()),
        "note" => Some(style),
        _ => None,
    }
}

/// Prints lines, with their labels in colour. A stderr that is closed is not an error.
pub fn note(lines: fmt::Arguments) {
    if is_json() {
        return lines.to_string().split('\n').for_each(log);
    }
    let mut text = String::new();
    for line in lines.to_string().split('\n') {
        match line.split_once(": ").and_then(|(name, rest)| Some((label(name)?.apply_to(name).to_string(), rest))) {
            Some((name, rest)) => text.extend([&name, ": ", rest, "\n"]),
            None => text.extend([line, "\n"]),
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints lines that matter less than those around them: dim.
pub fn aside(lines: fmt::Arguments) {
    if is_json() {
        return note(lines);
    }
    let lines = lines.to_string();
    let dim = lines.split('\n').map(|line| style(line).for_stderr().dim().to_string() + "\n");
    let _ = std::io::stderr().write_all(dim.collect::<String>().as_bytes());
}
