//! `--print-config`: the options that count for a command, as a file for `--config`.

use crate::config::Defaults;
use crate::sampling;
use crate::secret;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use std::fmt::Write;
use toml::Value;
use trine_engine::Sampling;

/// The options of a command that have values, each with where it is said.
pub fn text(command: &Command, matches: &ArgMatches, defaults: &[Defaults]) -> String {
    let mut text = format!("[{}]\n", command.get_name());
    let mut lines: Vec<_> = command.get_arguments().filter_map(|arg| line(arg, matches, defaults)).collect();
    lines.extend(of_preset(matches));
    lines.sort_by(|a, b| a.0.trim_start_matches("# ").cmp(b.0.trim_start_matches("# ")));
    let width = lines.iter().map(|(setting, _)| setting.chars().count()).filter(|&width| width <= 40).max();
    for (setting, source) in lines {
        let _ = writeln!(text, "{setting:width$}  # {source}", width = width.unwrap_or_default());
    }
    text
}

/// What an option is, and who says so.
fn line(arg: &Arg, matches: &ArgMatches, defaults: &[Defaults]) -> Option<(String, String)> {
    let (id, long) = (arg.get_id().as_str(), arg.get_long()?);
    if crate::config::NOT_IN_FILE.contains(&long) {
        return None;
    }
    let said = defaults.iter().find_map(|defaults| defaults.place(id));
    let source = match (matches.value_source(id)?, said) {
        (ValueSource::CommandLine, _) => "the command line".to_owned(),
        (ValueSource::EnvVariable, _) => format!("the variable {}", arg.get_env()?.display()),
        (_, Some(place)) => place,
        _ => "default".to_owned(),
    };
    // What nobody says stays unsaid: it may exclude what somebody does.
    let unsaid = if source == "default" { "# " } else { "" };
    let is_secret = |value: &std::ffi::OsStr| secret::public(&value.to_string_lossy()) != value.to_string_lossy();
    let has_secret = || secret::URLS.contains(&long) && matches.get_raw(id).into_iter().flatten().any(is_secret);
    if secret::KEYS.contains(&long) || has_secret() {
        return Some((format!("# {long}"), format!("{source}; not shown")));
    }
    let value = match matches.try_get_one::<bool>(id) {
        Ok(on) => Value::Boolean(*on?),
        Err(_) => {
            let values = matches.get_raw(id)?.map(|value| value.to_string_lossy().into_owned());
            let mut values: Vec<Value> = values.map(typed).collect();
            if values.len() == 1 { values.pop()? } else { Value::Array(values) }
        }
    };
    Some((format!("{unsaid}{long} = {value}"), source))
}

/// What a preset sets of the options that nobody does. It stays unsaid, too: in a file it would override another preset.
fn of_preset(matches: &ArgMatches) -> Vec<(String, String)> {
    let Some(name) = matches.try_get_one::<String>("preset").ok().flatten() else { return Vec::new() };
    let values = Sampling::preset(name).into_iter().flat_map(|preset| sampling::values(&preset));
    let unsaid = values.filter(|(option, _)| matches.value_source(&option.replace('-', "_")).is_none());
    unsaid.map(|(option, value)| (format!("# {option} = {}", typed(value)), format!("--preset {name}"))).collect()
}

/// A value as the file writes it: numbers as they are, all else as a string.
fn typed(text: String) -> Value {
    let values = [
        text.parse().ok().map(Value::Integer),
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
    ];
    // One that would be written in another way, such as 007, stays text.
    let same = values.into_iter().flatten().find(|value| value.to_string() == text);
    same.unwrap_or(Value::String(text))
}
