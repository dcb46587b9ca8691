//! Environment variables. One rule for all: an empty one counts as unset, a flag overrides its variable, which overrides a configuration file,
//! each with all options that it excludes, errors name what they are about, and a `TRINE_*` that no option has is a warning, which `serve` refuses.

use crate::config::{Defaults, NOT_IN_FILE};
use crate::exit::{Exit, UsageError};
use crate::near;
use crate::output::check_distinct;
use crate::say;
use crate::secret;
use clap::builder::{BoolishValueParser, Resettable, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use std::ffi::{OsStr, OsString};
use std::io::Write;

const PREFIX: &str = "TRINE_";

/// A variable of other programs for the number of threads; 0 is its word for the default.
const RAYON: &str = "RAYON_NUM_THREADS";

/// Variables of ours, and those of other programs that count where ours are unset.
const ELSEWHERE: [(&str, &str); 2] = [("TRINE_THREADS", RAYON), ("TRINE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")];

/// Parses the command line, with variables where it has no flags, and starts the log. Exits on errors, and for `--help`.
pub fn matches(command: Command) -> ArgMatches {
    let logs_json = logs_json();
    if logs_json {
        // What is wrong is an event, too.
        say::start_log(true);
    }
    let command = all(command);
    let names = names(&command);
    // Long help names all variables, set or not.
    if std::env::args_os().any(|arg| arg == "--help")
        && let Err(error) = show_all(command.clone()).try_get_matches()
        && error.kind() == ErrorKind::DisplayHelp
    {
        exit(error)
    }
    // What is wrong without variables is not theirs.
    let flags = match before_file(&with(command.clone(), |_| None)) {
        Err(error) if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            exit(crate::help::suggest(error, &command))
        }
        flags => flags.unwrap_or_default(),
    };
    let command = without_excluded(with(command, variable), &flags);
    let checked = |parsed: Result<ArgMatches, clap::Error>, command: &Command, defaults: &[Defaults]| {
        parsed.unwrap_or_else(|error| exit(named(error, command.clone(), &flags, defaults)))
    };
    let mut matches = checked(before_file(&command), &command, &[]);
    let (mut command, mut defaults) = (command, Vec::new());
    // Each may say which the next are.
    for source in [Defaults::of_file, Defaults::of_mode, Defaults::of_tuning] {
        let found = source(&command, &matches).unwrap_or_else(|error| {
            crate::exit::report(&error);
            std::process::exit(Exit::Usage as i32)
        });
        if let Some(found) = found.map(|found| found.after(&defaults)) {
            command = found.apply(command);
            defaults.push(found);
            matches = checked(before_file(&command), &command, &defaults);
        }
    }
    // What is required was said by now.
    matches = checked(command.clone().try_get_matches(), &command, &defaults);
    if !logs_json {
        // A file may say so.
        let raw = matches.subcommand().and_then(|(_, own)| own.try_get_raw("log_format").ok()?);
        say::start_log(raw.is_some_and(|mut raw| raw.any(|format| format == "json")));
    }
    let unread = unread(&names);
    // Who sets up a server may never read its warnings.
    if let Some(message) = unread.first().filter(|_| matches.subcommand_name() == Some("serve")) {
        let hint = "unset it; `trine serve --help` lists options";
        std::process::exit(crate::exit::report(&UsageError { message: message.clone(), hint }.into()) as i32);
    }
    // With it, arguments have the names of their values.
    command.build();
    if let Err(error) = check_distinct(&command, &matches).and_then(|()| check_json()) {
        std::process::exit(crate::exit::report(&error.into()) as i32);
    }
    if let Some((name, own)) = matches.subcommand()
        && own.try_get_one("print-config").ok().flatten() == Some(&true)
    {
        let subcommand = command.find_subcommand(name).expect("it was parsed");
        let text = crate::print_config::text(subcommand, own, &defaults);
        let printed = std::io::stdout().write_all(text.as_bytes());
        std::process::exit(printed.map_or_else(|error| crate::exit::report(&error.into()) as i32, |()| 0));
    }
    if !is_quiet(&matches) {
        for defaults in &defaults {
            aside!("options from {}", defaults.source);
        }
        unread.iter().for_each(|message| note!("warning: {message}"));
    }
    matches
}

/// The command line with all its variables, and what models may be.
pub fn all(command: Command) -> Command {
    crate::hub::with_models(with_variables(with_values(command)))
}

/// What is wrong with variables that have our prefix and none of these names.
fn unread(names: &[String]) -> Vec<String> {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unread = set.filter(|name| name.starts_with(PREFIX) && !names.contains(name));
    let message = |found: String| {
        // All have the prefix, which says nothing about likeness.
        let known = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
        let near = match near::best(&found[PREFIX.len()..], known) {
            _ if found == "TRINE_KEY" => "; TRINE_API_KEY is a key, and TRINE_KEYS a file of keys".to_owned(),
            Some(near) => format!("; a similar one is {PREFIX}{near}"),
            None => String::new(),
        };
        format!("{found} is no variable that trine reads{near}")
    };
    unread.map(message).collect()
}

/// Parses a command line, which may lack what a file gives.
fn before_file(command: &Command) -> Result<ArgMatches, clap::Error> {
    command.clone().try_get_matches().or_else(|error| match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            let optional = |arg: Arg| if arg.get_long().is_some() { arg.required(false) } else { arg };
            command.clone().mut_subcommands(|command| command.mut_args(optional)).try_get_matches().map_err(|_| error)
        }
        _ => Err(error),
    })
}

/// The command line, where switches that are written as `--quiet=false` have a value.
fn with_values(command: Command) -> Command {
    let words: Vec<String> = std::env::args_os().filter_map(|word| word.into_string().ok()).collect();
    let valued = move |arg: &Arg| {
        let long = arg.get_long().map(|long| format!("--{long}="));
        long.is_some_and(|long| words.iter().any(|word| word.starts_with(&long)))
    };
    command.mut_subcommands(|command| {
        command.mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue if valued(&arg) => {
                let arg = arg.action(ArgAction::Set).value_parser(value_parser!(bool)).default_value("false");
                arg.num_args(0..=1).require_equals(true).default_missing_value("true")
            }
            _ => arg,
        })
    })
}

/// The command line where all that a file may say of `serve` has a variable of its name: `TRINE_MAX_QUEUED` is `--max-queued`.
///
/// Elsewhere, an option of the same name may mean something else, or need another beside it.
fn with_variables(command: Command) -> Command {
    let named = |arg: Arg| {
        let arg = arg.hide_env(true);
        match arg.get_long().filter(|long| !NOT_IN_FILE.contains(long)).map(name) {
            Some(name) if matches!(arg.get_action(), ArgAction::SetTrue) => {
                arg.env(name).value_parser(BoolishValueParser::new())
            }
            Some(name) => arg.env(name),
            None => arg,
        }
    };
    command.mut_subcommand("serve", |command| command.mut_args(named))
}

/// The variable of an option that has this name.
fn name(long: &str) -> String {
    format!("{PREFIX}{}", long.replace('-', "_").to_uppercase())
}

/// Whether the words of a command line or a variable make the log of a server JSON, as far as that can be seen before they are parsed.
fn logs_json() -> bool {
    let words: Vec<String> = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect();
    let flag = words.iter().enumerate().rev().find_map(|(i, word)| match word.strip_prefix("--log-format") {
        Some("") => words.get(i + 1).map(String::as_str),
        Some(value) => value.strip_prefix('='),
        None => None,
    });
    let variable = || std::env::var("TRINE_LOG_FORMAT").is_ok_and(|format| format == "json");
    words.first().is_some_and(|word| word == "serve") && flag.map_or_else(variable, |format| format == "json")
}

/// Prints a message of clap and exits, with another status than success if help cannot be written.
fn exit(error: clap::Error) -> ! {
    let error = secret::without_secret(error);
    if error.use_stderr() && say::is_json() {
        let text = error.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        note!("{}", lines.join("\n"));
        std::process::exit(error.exit_code())
    }
    match error.print() {
        Err(problem) if !error.use_stderr() => std::process::exit(crate::exit::report(&problem.into()) as i32),
        _ => std::process::exit(error.exit_code()),
    }
}

/// The variables of an option, of which the first that is set counts.
pub fn variables(arg: &Arg) -> Vec<String> {
    let Some(own) = arg.get_env().and_then(|name| name.to_str()) else { return Vec::new() };
    let aliases = arg.get_visible_aliases().unwrap_or_default().into_iter().map(name);
    let elsewhere = ELSEWHERE.iter().filter(|(ours, _)| *ours == own).map(|(_, theirs)| theirs.to_string());
    [own.to_owned()].into_iter().chain(aliases).chain(elsewhere).collect()
}

/// The variable to read for an option, if one is set, and its value.
fn variable(arg: &Arg) -> Option<(String, OsString)> {
    let set = |name: String| {
        let value = std::env::var_os(&name)?;
        let unset = value.is_empty() || name == RAYON && value == "0";
        (!unset).then_some((name, value))
    };
    variables(arg).into_iter().find_map(set)
}

/// The command line whose options read what `variable` says, or nothing.
fn with(command: Command, variable: fn(&Arg) -> Option<(String, OsString)>) -> Command {
    let command = command.mut_args(|arg| match variable(&arg) {
        // A switch that is off excludes nothing.
        Some((name, value)) if is_off(&arg, &value) => arg.env(name).conflicts_with(Resettable::Reset),
        Some((name, _)) => arg.env(name),
        None => arg.env(None),
    });
    command.mut_subcommands(|command| with(command, variable))
}

fn is_off(arg: &Arg, value: &OsStr) -> bool {
    let parsed = BoolishValueParser::new().parse_ref(&Command::default(), None, value);
    matches!(arg.get_action(), ArgAction::SetTrue) && matches!(parsed, Ok(false))
}

/// The command line without the variables of options that these flags exclude.
fn without_excluded(command: Command, flags: &ArgMatches) -> Command {
    if let Some((name, flags)) = flags.subcommand() {
        return command.mut_subcommand(name, |command| without_excluded(command, flags));
    }
    let is_excluded = |arg: &&Arg| {
        let excludes = |other: &Arg| is_asked(flags, other) && exclude(&command, arg, other);
        arg.get_env().is_some() && command.get_arguments().any(excludes)
    };
    let excluded: Vec<_> = command.get_arguments().filter(is_excluded).map(|arg| arg.get_id().clone()).collect();
    excluded.into_iter().fold(command, |command, id| command.mut_arg(id, |arg| arg.env(None)))
}

/// Whether a flag or a variable gives an option, and not a switch that is off.
pub fn is_asked(matches: &ArgMatches, arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    let asked = matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
    asked && matches.try_get_one::<bool>(id).ok().flatten() != Some(&false)
}

/// Whether only one of two options may be given.
pub fn exclude(command: &Command, a: &Arg, b: &Arg) -> bool {
    let (a_id, b_id) = (a.get_id(), b.get_id());
    let declared = |a: &Arg, b: &Arg| command.get_arg_conflicts_with(a).iter().any(|arg| arg.get_id() == b.get_id());
    let in_one_group = |group: &ArgGroup| {
        let ids: Vec<_> = group.get_args().collect();
        !group.clone().is_multiple() && ids.contains(&a_id) && ids.contains(&b_id)
    };
    a_id != b_id && (declared(a, b) || declared(b, a) || command.get_groups().any(in_one_group))
}

/// The command line whose help has the values of variables that are set, and the names of others.
fn show_all(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let hidden = arg.is_hide_env_values_set() || variable(&arg).is_none();
        arg.hide_env_values(hidden)
    });
    command.mut_subcommands(show_all)
}

/// All variables of options.
fn names(command: &Command) -> Vec<String> {
    command.get_arguments().flat_map(variables).chain(command.get_subcommands().flat_map(names)).collect()
}

/// The error of a variable, which clap thinks is one of its flag.
fn named(mut error: clap::Error, mut command: Command, flags: &ArgMatches, defaults: &[Defaults]) -> clap::Error {
    command.build();
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        if let Some(ContextValue::String(flag)) = error.get(kind)
            && let Some(name) = find(&command, flags, flag, defaults)
        {
            error.insert(kind, ContextValue::String(name));
        }
    }
    error
}

/// The variable that is read for a flag, as clap writes that, or its key in a file or mode, unless the flag was given.
fn find(command: &Command, flags: &ArgMatches, flag: &str, defaults: &[Defaults]) -> Option<String> {
    if let Some((name, flags)) = flags.subcommand() {
        return find(command.find_subcommand(name)?, flags, flag, defaults);
    }
    let arg = command.get_arguments().find(|arg| arg.to_string() == flag)?;
    if flags.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
        return None;
    }
    let variable = || arg.get_env()?.to_str().map(str::to_owned);
    let place = defaults.iter().find_map(|defaults| defaults.place(arg.get_id().as_str()));
    variable().or_else(|| Some(format!("{} of {}", arg.get_long()?, place?)))
}

/// Whether the command was told to print no warnings.
fn is_quiet(matches: &ArgMatches) -> bool {
    let own = matches.try_get_one::<bool>("quiet").ok().flatten() == Some(&true);
    own || matches.subcommand().is_some_and(|(_, matches)| is_quiet(matches))
}

/// JSON is text: names of files that are not cannot be in it.
fn check_json() -> Result<(), UsageError> {
    let all: Vec<_> = std::env::args_os().collect();
    let is_form = |pair: &[std::ffi::OsString]| (pair[0] == "--output" || pair[0] == "-o") && pair[1] == "json";
    let is_json = all.iter().any(|arg| arg == "--json" || arg == "--output=json") || all.windows(2).any(is_form);
    match all.into_iter().skip(1).find(|arg| is_json && arg.to_str().is_none()) {
        None => Ok(()),
        Some(arg) => {
            let message = format!("--json: expected names in UTF-8, found `{}`", arg.to_string_lossy());
            Err(UsageError { message, hint: "omit --json, or call the file by another name" })
        }
    }
}
