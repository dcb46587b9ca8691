//! A flag for every sampling option of the engine, generated from the engine's list.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::hash::{BuildHasher, Hasher, RandomState};
use trine_engine::{Field, Param, Sampling, params};

/// How tokens are sampled.
#[derive(Clone, Debug)]
pub struct SamplingArgs(pub Sampling);

const DEFAULT_PRESET: &str = "balanced";
const HEADING: &str = "Sampling";
/// Options in the short help.
const COMMON: [&str; 6] = ["temperature", "top_k", "top_p", "seed", "max_tokens", "stop"];

/// A seed for an answer that was given none.
pub fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Whether an option takes no value.
fn is_switch(param: &Param) -> bool {
    matches!((param.field)(&mut Sampling::default()), Field::Switch(_))
}

/// The flag of an option: that of `repetition_penalty` is `--repetition-penalty`.
fn arg(param: &'static Param) -> Arg {
    let arg = Arg::new(param.name).long(param.name.replace('_', "-")).help(param.help).help_heading(HEADING);
    let arg = arg.hide_short_help(!COMMON.contains(&param.name));
    let value = match (param.field)(&mut Sampling::default()) {
        Field::Switch(_) => return arg.action(ArgAction::SetTrue),
        Field::Float(_) => "NUMBER",
        Field::Count(_) | Field::Limit(_) => "N",
        Field::Seed(_) => return checked(arg, param, "SEED").env("TRINE_SEED"),
        Field::Texts(_) => return checked(arg, param, "TEXT").action(ArgAction::Append),
        Field::Biases(_) => return checked(arg, param, "ID=NUMBER").action(ArgAction::Append),
    };
    checked(arg, param, value)
}

/// An argument whose value is checked when it is parsed.
fn checked(arg: Arg, param: &'static Param, value: &'static str) -> Arg {
    let check = |text: &str| param.set(&mut Sampling::default(), text).map(|()| text.to_owned());
    arg.value_name(value).allow_hyphen_values(true).value_parser(check)
}

impl Args for SamplingArgs {
    fn augment_args(command: Command) -> Command {
        let presets: Vec<&str> = Sampling::presets().collect();
        let preset = Arg::new("preset")
            .long("preset")
            .help("Preset of sampling options, which the other options override")
            .value_name("NAME")
            .value_parser(presets)
            .default_value(DEFAULT_PRESET)
            .help_heading(HEADING);
        command.arg(preset).args(params().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        SamplingArgs::augment_args(command)
    }
}

impl FromArgMatches for SamplingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SamplingArgs, clap::Error> {
        let invalid = |error: trine_engine::Error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error);
        let preset = matches.get_one::<String>("preset").map_or(DEFAULT_PRESET, |name| name);
        let mut sampling = Sampling::preset(preset).map_err(invalid)?;
        for param in params() {
            if is_switch(param) {
                if matches.get_flag(param.name) {
                    param.set(&mut sampling, "true").map_err(invalid)?;
                }
            } else {
                for text in matches.get_many::<String>(param.name).into_iter().flatten() {
                    param.set(&mut sampling, text).map_err(invalid)?;
                }
            }
        }
        Ok(SamplingArgs(sampling))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = SamplingArgs::from_arg_matches(matches)?;
        Ok(())
    }
}
