//! Options that count where neither a flag nor a variable gives one, for the commands that run models: those of a TOML file, after them those
//! of a `--mode`, and then those that `trine tune` found.

use crate::environment::{exclude, is_asked};
use crate::exit::UsageError;
use crate::near;
use anyhow::{Context, Result};
use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use trine::EMBEDDED;
use trine_lab::bench::Machine;
use trine_tensor::{File, OpenOptions};

/// Commands that take options from the file. A table of it has the name of one.
const COMMANDS: [&str; 6] = ["run", "serve", "batch", "generate-data", "bench", "info"];

/// What `--mode` sets, as the file would.
const MODES: [(&str, &[(&str, &str)]); 3] = [
    (
        "low-latency",
        &[("huge-pages", "on"), ("repack", "on"), ("parallel", "4"), ("prefill-chunk", "256"), ("itl-target", "50")],
    ),
    ("throughput", &[("huge-pages", "on"), ("repack", "on"), ("parallel", "32"), ("itl-target", "off")]),
    (
        "low-memory",
        &[("huge-pages", "off"), ("repack", "off"), ("cache-type", "q8_0"), ("parallel", "1"), ("prefill-chunk", "64")],
    ),
];

/// Larger than any file that a person writes, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What `trine tune` measures, and a file of it may set.
pub const TUNED: [&str; 5] = ["threads", "threads-batch", "prefill-chunk", "repack", "huge-pages"];

/// Options of the file that can only be given where they are meant.
pub const NOT_IN_FILE: [&str; 5] = ["config", "tuning", "print-config", "help", "version"];

/// The command line with `--config`, `--mode`, `--tuning` and `--print-config` where they count.
pub fn with_flags(mut command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("TRINE_CONFIG")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help("Take options from this TOML file [default: trine/config.toml in the user's configuration folder]")
        .long_help(
            "Take options from this TOML file [default: trine/config.toml in the user's configuration folder, if it is there]\n\n\
             `threads = 4` is --threads 4 in every command that has it; below [run], [serve], [batch], [generate-data], [bench] or [info], \
             a key counts for that command. Flags and variables override the file, a switch such as `quiet = true` with --quiet=false; \
             off reads none.",
        );
    let list = MODES.map(|(name, options)| {
        let options: Vec<String> = options.iter().map(|(key, value)| format!("--{key} {value}")).collect();
        format!("{name}: {}", options.join(" "))
    });
    let mode = Arg::new("mode")
        .long("mode")
        .value_name("NAME")
        .env("TRINE_MODE")
        .value_parser(MODES.map(|(name, _)| name))
        .hide_possible_values(true)
        .help("Options for a purpose: low-latency, throughput or low-memory")
        .long_help(format!(
            "Options for a purpose, those of them that the command has; flags, variables and the file override them\n\n{}",
            list.join("\n")
        ));
    let tuning = Arg::new("tuning")
        .long("tuning")
        .value_name("FILE")
        .env("TRINE_TUNING")
        .default_value("auto")
        .value_parser(NonEmptyStringValueParser::new())
        .value_hint(ValueHint::FilePath)
        .help("Take options from this file of `trine tune`; auto takes that for the model, off takes none");
    let print = Arg::new("print-config")
        .long("print-config")
        .action(ArgAction::SetTrue)
        .help("Print the options that count, and where each is said, as a file for --config, and exit");
    for name in COMMANDS {
        for flag in [&config, &mode, &tuning, &print] {
            let flag = flag.clone().help_heading("Options").hide_short_help(true);
            command = command.mut_subcommand(name, |command| command.arg(flag));
        }
    }
    command
}

/// Defaults of a command's options.
pub struct Defaults {
    /// The file or mode that they are of, for errors.
    pub source: String,
    command: String,
    /// By the id of the option.
    values: BTreeMap<String, Given>,
}

/// What an option has by default.
struct Given {
    values: Vec<String>,
    /// Where the file says so.
    line: Option<usize>,
}

impl Defaults {
    /// Those of the file that `matches`, or else the user's configuration folder, names; `None` for commands that take none, and without a
    /// file.
    ///
    /// # Errors
    /// When the file cannot be read, has a key that no option has, or options that exclude one another.
    pub fn of_file(command: &Command, matches: &ArgMatches) -> Result<Option<Defaults>> {
        let Some((name, own)) = matches.subcommand().filter(|(name, _)| COMMANDS.contains(name)) else {
            return Ok(None);
        };
        let named = own.get_one::<PathBuf>("config").cloned();
        if named.as_ref().is_some_and(|path| path.as_os_str() == "off") {
            return Ok(None);
        }
        // What is there and is no file is an error.
        let there = |path: &PathBuf| path.symlink_metadata().is_ok();
        let usual = || dirs::config_dir().map(|folder| folder.join("trine/config.toml")).filter(there);
        let Some(path) = named.or_else(usual) else { return Ok(None) };
        let (general, special): (Vec<_>, Vec<_>) =
            read(&path)?.into_iter().partition(|setting| setting.table.is_none());
        let special = special.into_iter().filter(|setting| setting.table.as_deref() == Some(name));
        let source = path.display().to_string();
        let of = |settings: Vec<Setting>| {
            let found = Defaults::new(source.clone(), command, (name, own), settings.into_iter().map(Setting::given));
            found.check(command)
        };
        let (mut general, special) = (of(general)?, of(special.collect())?);
        general.values.retain(|id, _| !special.excludes(command, id));
        general.values.extend(special.values);
        Ok(Some(general))
    }

    /// Those of the mode that is asked for. There is no error, but the others have the same type.
    pub fn of_mode(command: &Command, matches: &ArgMatches) -> Result<Option<Defaults>> {
        let Some((name, own)) = matches.subcommand().filter(|(name, _)| COMMANDS.contains(name)) else {
            return Ok(None);
        };
        let mode = own.get_one::<String>("mode");
        let Some((mode, options)) = MODES.iter().find(|(name, _)| mode.is_some_and(|mode| mode == name)) else {
            return Ok(None);
        };
        let given = |value: &str| Given { values: vec![value.to_owned()], line: None };
        let options = options.iter().map(|(key, value)| (key.to_string(), given(value)));
        Ok(Some(Defaults::new(format!("--mode {mode}"), command, (name, own), options)))
    }

    /// Those that `trine tune` wrote for the model, or to the file that is asked for.
    ///
    /// # Errors
    /// As [`Defaults::of_file`].
    pub fn of_tuning(command: &Command, matches: &ArgMatches) -> Result<Option<Defaults>> {
        let Some((name, own)) = matches.subcommand().filter(|(name, _)| COMMANDS.contains(name)) else {
            return Ok(None);
        };
        let mut automatic = false;
        let path = match own.get_one::<String>("tuning").map(String::as_str) {
            Some("off") => return Ok(None),
            None | Some("auto") => {
                let named = own.try_get_one::<PathBuf>("model").ok().flatten().map(PathBuf::as_path);
                let Some(model) = named.or((name == "run").then_some(Path::new(EMBEDDED))) else { return Ok(None) };
                // What is wrong with a model is told when it is loaded.
                let found = || tuning_file(&trine::open_file(model, &OpenOptions::default()).ok()?).ok();
                let any = tuning_folder().is_ok_and(|folder| folder.is_dir());
                automatic = true;
                match any.then(found).flatten().filter(|path| path.symlink_metadata().is_ok()) {
                    Some(path) => path,
                    None => return Ok(None),
                }
            }
            Some(path) => PathBuf::from(path),
        };
        let settings = match read_tuning(&path) {
            // Nobody asked for it: the model runs without.
            Err(error) if automatic => {
                note!("warning: {}: ignored; `trine tune` writes it again", crate::exit::message(&error));
                return Ok(None);
            }
            settings => settings?,
        };
        let settings = settings.into_iter().map(Setting::given);
        Ok(Some(Defaults::new(path.display().to_string(), command, (name, own), settings)))
    }

    /// `own` is what else is said of the options of the command `name`.
    fn new(
        source: String,
        command: &Command,
        (name, own): (&str, &ArgMatches),
        options: impl Iterator<Item = (String, Given)>,
    ) -> Defaults {
        let subcommand = subcommand(command, name);
        let mut values = BTreeMap::new();
        for (key, given) in options {
            // What is asked for now must not meet what is said here instead.
            let void = |arg: &Arg| {
                subcommand.get_arguments().any(|other| is_asked(own, other) && exclude(subcommand, arg, other))
            };
            if let Some(arg) = find(subcommand, &key).filter(|arg| !void(arg)) {
                values.insert(arg.get_id().to_string(), given);
            }
        }
        Defaults { source, command: name.to_owned(), values }
    }

    /// Refuses options that exclude one another.
    fn check(self, command: &Command) -> Result<Defaults, UsageError> {
        let subcommand = subcommand(command, &self.command);
        let args: Vec<&Arg> = subcommand.get_arguments().filter(|arg| self.sets(arg)).collect();
        for (i, arg) in args.iter().enumerate() {
            if let Some(other) = args[..i].iter().find(|other| exclude(subcommand, arg, other)) {
                let said = |arg: &Arg| {
                    let line = self.values.get(arg.get_id().as_str()).and_then(|given| given.line);
                    (line.unwrap_or(1), arg.get_long().unwrap_or_default().to_owned())
                };
                let mut both = [said(other), said(arg)];
                both.sort();
                let [(first, one), (line, key)] = both;
                let message =
                    format!("{}, line {line}: `{key}` cannot be used with `{one}` of line {first}", self.source);
                return Err(UsageError { message, hint: "remove one of them" });
            }
        }
        Ok(self)
    }

    /// Whether an option of the command with this id excludes one that is set here.
    fn excludes(&self, command: &Command, id: &str) -> bool {
        let subcommand = subcommand(command, &self.command);
        let Some(arg) = subcommand.get_arguments().find(|arg| arg.get_id() == id) else { return false };
        subcommand.get_arguments().any(|other| self.sets(other) && exclude(subcommand, arg, other))
    }

    /// Whether an option has a value from here that is not that of a switch which is off.
    fn sets(&self, arg: &Arg) -> bool {
        let is_switch = arg.get_value_parser().type_id() == TypeId::of::<bool>();
        let is_off = |given: &Given| is_switch && given.values == ["false"];
        self.values.get(arg.get_id().as_str()).is_some_and(|given| !is_off(given))
    }

    /// Leaves out what others have.
    pub fn after(mut self, others: &[Defaults]) -> Defaults {
        self.values.retain(|id, _| !others.iter().any(|others| others.gives(id)));
        self
    }

    /// The command line with these defaults.
    pub fn apply(&self, command: Command) -> Command {
        command.mut_subcommand(&self.command, |mut command| {
            for (id, given) in &self.values {
                command = command.mut_arg(id, |arg| arg.default_values(given.values.clone()).required(false));
            }
            command
        })
    }

    /// Where the value of an option is said, for errors.
    pub fn place(&self, id: &str) -> Option<String> {
        let source = &self.source;
        let line = self.values.get(id)?.line;
        Some(line.map_or_else(|| source.clone(), |line| format!("{source}, line {line}")))
    }

    /// Whether an option of the command has its value from here.
    pub fn gives(&self, id: &str) -> bool {
        self.values.contains_key(id)
    }
}

fn subcommand<'a>(command: &'a Command, name: &str) -> &'a Command {
    command.find_subcommand(name).expect("it was parsed")
}

/// Where `trine tune` writes what it finds.
fn tuning_folder() -> Result<PathBuf> {
    let folder = dirs::data_dir().context("expected a data folder of the user, found none: --output names a file")?;
    Ok(folder.join("trine/tuning"))
}

/// Where `trine tune` writes what it finds for a model on this machine.
pub fn tuning_file(file: &File) -> Result<PathBuf> {
    let Machine { cpu, cores, .. } = crate::measure::machine();
    let machine = format!("{} {}", cpu.unwrap_or_default(), cores.unwrap_or_default()).to_lowercase();
    let words: Vec<&str> = machine.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let model: String = file.description_fingerprint()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(tuning_folder()?.join(format!("{model}-{}.toml", words.join("-"))))
}

/// Reads a file that sets what can be tuned, and nothing else.
fn read_tuning(path: &Path) -> Result<Vec<Setting>> {
    let settings = read(path)?;
    let other = |setting: &&Setting| setting.table.is_some() || !TUNED.contains(&&*setting.key.replace('_', "-"));
    if let Some(Setting { key, .. }) = settings.iter().find(other) {
        let message = format!("{}: `{key}`: expected {}", path.display(), TUNED.join(", "));
        return Err(UsageError { message, hint: "--config takes a file with other options" }.into());
    }
    Ok(settings)
}

/// A key of the file and what it says.
struct Setting {
    /// The command that it is for, or all.
    table: Option<String>,
    key: String,
    values: Vec<String>,
    line: usize,
}

impl Setting {
    fn given(self) -> (String, Given) {
        (self.key, Given { values: self.values, line: Some(self.line) })
    }
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
    let mut seen = BTreeSet::new();
    let mut once = |table: &str, key: &str, line: usize| match seen.insert((table.to_owned(), key.replace('_', "-"))) {
        true => Ok(()),
        false => Err(wrong(line, format!("`{key}` is there twice"))),
    };
    let command = crate::help::command();
    let of = |name: &str| command.find_subcommand(name).expect("one of the commands");
    let mut settings = Vec::new();
    for (key, value) in table.get_ref() {
        let (name, at) = (key.get_ref(), line(key.span().start));
        let DeValue::Table(own) = value.get_ref() else {
            let values = check(&COMMANDS.map(of), name, value).map_err(|problem| wrong(at, problem))?;
            once("", name, at)?;
            settings.push(Setting { table: None, key: name.to_string(), values, line: at });
            continue;
        };
        if !COMMANDS.contains(&name.as_ref()) {
            let known = COMMANDS.map(|name| format!("[{name}]")).join(", ");
            return Err(wrong(at, format!("expected {known}, found [{name}]")).into());
        }
        for (key, value) in own {
            let at = line(key.span().start);
            let values =
                check(&[of(name)], key.get_ref(), value).map_err(|problem| wrong(at, format!("[{name}] {problem}")))?;
            once(name, key.get_ref(), at)?;
            settings.push(Setting { table: Some(name.to_string()), key: key.get_ref().to_string(), values, line: at });
        }
    }
    Ok(settings)
}

/// The values of a key, if one of these commands has the option and it may have them.
fn check(commands: &[&Command], key: &str, value: &Spanned<DeValue>) -> Result<Vec<String>, String> {
    let takes_several =
        |arg: &Arg| matches!(arg.get_action(), ArgAction::Append) || arg.get_value_delimiter().is_some();
    let mut kinds: Vec<(bool, &str)> = Vec::new();
    for command in commands {
        kinds.extend(find(command, key).map(|arg| (takes_several(arg), command.get_name())));
    }
    let Some(&(several, first)) = kinds.first() else {
        let known = commands.iter().flat_map(|command| command.get_arguments());
        let known = known.filter_map(Arg::get_long).filter(|long| !NOT_IN_FILE.contains(long));
        let near = near::best(key, known).map_or_else(String::new, |near| format!("; a similar one is `{near}`"));
        return Err(format!("expected the name of an option, found `{key}`{near}"));
    };
    if let Some((_, other)) = kinds.iter().find(|(kind, _)| *kind != several) {
        return Err(format!("`{key}`: expected it below [{first}] or [{other}], where it means different things"));
    }
    match texts(value.get_ref()) {
        Some(values) if values.len() == 1 || several && !values.is_empty() => Ok(values),
        _ if several => Err(format!("`{key}`: expected a value or an array of values")),
        _ => Err(format!("`{key}`: expected a string, a number, true or false")),
    }
}

/// The option of a command that has this name. Dashes may be underscores.
fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    let key = key.replace('_', "-");
    let has = |arg: &Arg| {
        arg.get_long() == Some(&key) || arg.get_visible_aliases().is_some_and(|names| names.contains(&&*key))
    };
    command.get_arguments().find(|arg| has(arg) && !NOT_IN_FILE.contains(&&*key))
}

/// A value as it would be typed.
fn texts(value: &DeValue) -> Option<Vec<String>> {
    let text = match value {
        // A shell would do this.
        DeValue::String(text) => match (text.strip_prefix("~/"), dirs::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest).display().to_string(),
            _ => text.to_string(),
        },
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
