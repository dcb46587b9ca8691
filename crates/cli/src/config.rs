//! Options in a TOML file, for the commands that run models: values that count where neither a flag nor a variable gives one.

use crate::exit::UsageError;
use crate::near;
use anyhow::{Context, Result};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Commands that take options from the file. A table of it has the name of one.
const COMMANDS: [&str; 4] = ["run", "batch", "generate-data", "bench"];

/// Larger than any file that a person writes, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Options of the file that can only be given where they are meant.
const NOT_IN_FILE: [&str; 3] = ["config", "help", "version"];

/// The command line with `--config` where it counts.
pub fn with_flag(mut command: Command) -> Command {
    for name in COMMANDS {
        let flag = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("TRINE_CONFIG")
            .value_parser(value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .help_heading("Options")
            .hide_short_help(true)
            .help("Take options from this TOML file [default: trine/config.toml in the user's configuration folder]")
            .long_help(
                "Take options from this TOML file [default: trine/config.toml in the user's configuration folder, if it is there]\n\n\
                 `threads = 4` is --threads 4 in every command that has it; below [run], [batch], [generate-data] or [bench], \
                 a key counts for that command. Flags and variables override the file.",
            );
        command = command.mut_subcommand(name, |command| command.arg(flag));
    }
    command
}

/// Values from a file.
pub struct Config {
    pub path: PathBuf,
    command: String,
    /// By the id of the option.
    values: BTreeMap<String, Vec<String>>,
}

impl Config {
    /// The options of the file that `matches`, or else the user's configuration folder, names; `None` for commands that take none, and
    /// without a file. `flags` is what the command line alone says.
    ///
    /// # Errors
    /// When the file cannot be read, or has a key that no option has.
    pub fn of(command: &Command, matches: &ArgMatches, flags: &ArgMatches) -> Result<Option<Config>> {
        let (Some((name, own)), Some((_, flags))) = (matches.subcommand(), flags.subcommand()) else { return Ok(None) };
        if !COMMANDS.contains(&name) {
            return Ok(None);
        }
        let named = own.get_one::<PathBuf>("config").cloned();
        let usual = || dirs::config_dir().map(|folder| folder.join("trine/config.toml")).filter(|path| path.is_file());
        let Some(path) = named.or_else(usual) else { return Ok(None) };
        let (subcommand, mut values) = (command.find_subcommand(name).expect("it was parsed"), BTreeMap::new());
        let settings = read(&path)?;
        let (general, special): (Vec<_>, Vec<_>) = settings.into_iter().partition(|setting| setting.table.is_none());
        let special = special.into_iter().filter(|setting| setting.table.as_deref() == Some(name));
        for setting in general.into_iter().chain(special) {
            let Some(arg) = find(subcommand, &setting.key) else { continue };
            // What is asked for now must not meet what the file says instead.
            let given = |arg: &Arg| flags.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
            if !subcommand.get_arg_conflicts_with(arg).into_iter().any(given) {
                values.insert(arg.get_id().to_string(), setting.values);
            }
        }
        Ok(Some(Config { path, command: name.to_owned(), values }))
    }

    /// The command line with these defaults.
    pub fn apply(&self, command: Command) -> Command {
        command.mut_subcommand(&self.command, |mut command| {
            for (id, values) in &self.values {
                command = command.mut_arg(id, |arg| arg.default_values(values.clone()));
            }
            command
        })
    }

    /// Whether an option of the command has its value from here.
    pub fn gives(&self, id: &str) -> bool {
        self.values.contains_key(id)
    }
}

/// A key of the file and what it says.
struct Setting {
    /// The command that it is for, or all.
    table: Option<String>,
    key: String,
    values: Vec<String>,
}

/// Reads a file whose keys are all those of options.
fn read(path: &Path) -> Result<Vec<Setting>> {
    let wrong = |line: usize, problem: String| UsageError {
        message: format!("{}, line {line}: {problem}", path.display()),
        hint: "`trine run --help` lists options; a key is the name of one without its dashes",
    };
    let bytes = trine_tensor::read_small(path, MAX_FILE)?;
    let text = std::str::from_utf8(&bytes).with_context(|| path.display().to_string())?;
    let line = |offset: usize| 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
    let table = DeTable::parse(text)
        .map_err(|error| wrong(error.span().map_or(1, |span| line(span.start)), error.message().replace('\n', ": ")))?;
    let command = crate::help::command();
    let of = |name: &str| command.find_subcommand(name).expect("one of the commands");
    let mut settings = Vec::new();
    for (key, value) in table.get_ref() {
        let (name, at) = (key.get_ref(), line(key.span().start));
        let DeValue::Table(own) = value.get_ref() else {
            let values = check(&COMMANDS.map(of), name, value).map_err(|problem| wrong(at, problem))?;
            settings.push(Setting { table: None, key: name.to_string(), values });
            continue;
        };
        if !COMMANDS.contains(&name.as_ref()) {
            let known = COMMANDS.map(|name| format!("[{name}]")).join(", ");
            return Err(wrong(at, format!("expected {known}, found [{name}]")).into());
        }
        for (key, value) in own {
            let values = check(&[of(name)], key.get_ref(), value)
                .map_err(|problem| wrong(line(key.span().start), format!("[{name}] {problem}")))?;
            settings.push(Setting { table: Some(name.to_string()), key: key.get_ref().to_string(), values });
        }
    }
    Ok(settings)
}

/// The values of a key, if one of these commands has the option and it may have them.
fn check(commands: &[&Command], key: &str, value: &Spanned<DeValue>) -> Result<Vec<String>, String> {
    let Some(arg) = commands.iter().find_map(|command| find(command, key)) else {
        let known = commands.iter().flat_map(|command| command.get_arguments());
        let known = known.filter_map(Arg::get_long).filter(|long| !NOT_IN_FILE.contains(long));
        let near = near::best(key, known).map_or_else(String::new, |near| format!("; a similar one is `{near}`"));
        return Err(format!("expected the name of an option, found `{key}`{near}"));
    };
    let several = matches!(arg.get_action(), ArgAction::Append) || arg.get_value_delimiter().is_some();
    match texts(value.get_ref()) {
        Some(values) if values.len() == 1 || several && !values.is_empty() => Ok(values),
        _ if several => Err(format!("`{key}`: expected a value or an array of values")),
        _ => Err(format!("`{key}`: expected a string, a number, true or false")),
    }
}

/// The option of a command that has this name. Dashes may be underscores.
fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    let key = key.replace('_', "-");
    command.get_arguments().find(|arg| arg.get_long() == Some(&key) && !NOT_IN_FILE.contains(&&*key))
}

/// A value as it would be typed.
fn texts(value: &DeValue) -> Option<Vec<String>> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string(),
        DeValue::Array(values) => {
            let scalar = |value: &&Spanned<DeValue>| !matches!(value.get_ref(), DeValue::Array(_));
            return values
                .iter()
                .map(|value| Some(value).filter(scalar).and_then(|value| texts(value.get_ref())?.pop()))
                .collect();
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    };
    Some(vec![text])
}
