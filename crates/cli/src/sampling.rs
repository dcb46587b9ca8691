//! A flag for every sampling option of the engine, generated from the engine's list.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::hash::{BuildHasher, Hasher, RandomState};
use trine_engine::{Field, Param, Sampling, params};
use trine_model::GenerationConfig;

/// How tokens are sampled.
#[derive(Clone, Debug)]
pub struct SamplingArgs {
    /// The name of the preset that was passed, and what it is.
    preset: Option<(String, Sampling)>,
    /// Options that were passed, with their values.
    values: Vec<(&'static Param, String)>,
}

impl SamplingArgs {
    /// The options that were passed, over the preset that was passed or else `default`.
    pub fn over(&self, default: Sampling) -> Result<Sampling, trine_engine::Error> {
        let mut sampling = self.preset.as_ref().map_or(default, |(_, preset)| preset.clone());
        // Lists replace those of the default; each value adds one.
        self.values.iter().for_each(|(param, _)| param.clear(&mut sampling));
        self.values.iter().try_for_each(|(param, value)| param.set(&mut sampling, value))?;
        Ok(sampling)
    }

    /// As [`SamplingArgs::over`] for the default preset.
    pub fn sampling(&self) -> Result<Sampling, trine_engine::Error> {
        self.over(Sampling::preset(DEFAULT_PRESET)?)
    }

    /// As [`SamplingArgs::over`] for what a model recommends. A note tells what that is.
    pub fn recommended(&self, generation: &GenerationConfig, quiet: bool) -> Result<Sampling, trine_engine::Error> {
        let default = Sampling::preset(DEFAULT_PRESET)?;
        let recommended = default.clone().recommended(generation);
        let changed =
            |param: &&Param| param.show(&recommended) != param.show(&default) && param.name != "repeat_last_n";
        let shown = |param: &Param| Some(format!("{} {}", param.name.replace('_', "-"), param.show(&recommended)?));
        let list: Vec<String> = params().filter(changed).filter_map(shown).collect();
        if self.preset.is_none() && !list.is_empty() && !quiet {
            note!("note: {} sets {}; options override it", generation.source, list.join(", "));
        }
        self.over(recommended)
    }

    /// The name and values of the preset that was passed.
    pub fn shown_preset(&self) -> Option<String> {
        let (name, preset) = self.preset.as_ref()?;
        let values: Vec<String> = values(preset).iter().map(|(option, value)| format!("{option} {value}")).collect();
        Some(format!("preset {name}: {}", values.join(", ")))
    }
}

/// The options that presets set, each with its value in one of them.
pub fn values(preset: &Sampling) -> Vec<(String, String)> {
    let presets: Vec<Sampling> = Sampling::presets().filter_map(|name| Sampling::preset(name).ok()).collect();
    let set = |param: &&Param| presets.iter().any(|other| param.show(other) != param.show(&presets[0]));
    params().filter(set).filter_map(|param| Some((param.name.replace('_', "-"), param.show(preset)?))).collect()
}

const DEFAULT_PRESET: &str = "balanced";
pub const HEADING: &str = "Sampling";
/// Options in the short help.
const COMMON: [&str; 6] = ["temperature", "top_k", "top_p", "seed", "max_tokens", "stop"];

/// A seed for an answer that was given none.
pub fn random_seed() -> u64 {
    // JSON's numbers are exact up to 53 bits in many programs.
    RandomState::new().build_hasher().finish() >> 11
}

/// Whether an option takes no value: it is off unless it is passed.
fn is_switch(param: &Param) -> bool {
    matches!((param.field)(&mut Sampling::default()), Field::Switch(false))
}

/// The flag of an option: that of `repetition_penalty` is `--repetition-penalty`.
fn arg(param: &'static Param) -> Arg {
    let arg = Arg::new(param.name).long(param.name.replace('_', "-")).help(param.help).help_heading(HEADING);
    let arg = if param.name == "n" { arg.short('n') } else { arg };
    let arg = arg.hide_short_help(!COMMON.contains(&param.name));
    let value = match (param.field)(&mut Sampling::default()) {
        Field::Switch(false) => return arg.action(ArgAction::SetTrue),
        Field::Switch(true) => "true|false",
        Field::Float(_) => "NUMBER",
        Field::Count(_) | Field::Choice(..) | Field::Limit(_) => "N",
        Field::Seed(_) => return checked(arg, param, "SEED").env("TRINE_SEED"),
        Field::Texts(_) => return checked(arg, param, "TEXT").action(ArgAction::Append),
        Field::Ids(_) => return checked(arg, param, "ID").action(ArgAction::Append),
        Field::Sequences(_) => return checked(arg, param, "ID,ID").action(ArgAction::Append),
        Field::Biases(_) => return checked(arg, param, "ID=NUMBER").action(ArgAction::Append),
    };
    checked(arg, param, value)
}

/// An argument whose value is checked when it is parsed.
fn checked(arg: Arg, param: &'static Param, value: &'static str) -> Arg {
    let check = |text: &str| {
        let mut sampling = Sampling::default();
        param.clear(&mut sampling);
        param.set(&mut sampling, text).map(|()| text.to_owned())
    };
    arg.value_name(value).allow_hyphen_values(true).value_parser(check)
}

impl Args for SamplingArgs {
    fn augment_args(command: Command) -> Command {
        let presets: Vec<&str> = Sampling::presets().collect();
        let list = presets.iter().map(|name| {
            let preset = Sampling::preset(name).expect("it is one of them");
            let options: Vec<String> =
                values(&preset).iter().map(|(option, value)| format!("--{option} {value}")).collect();
            format!("\n{name}: {}", options.join(" "))
        });
        let about = "Preset of sampling options, which the other options override";
        let preset = Arg::new("preset")
            .long("preset")
            .help(about)
            .long_help(format!("{about} [default: the model's own options, or balanced]\n{}", list.collect::<String>()))
            .value_name("NAME")
            .value_parser(presets)
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
        let preset = matches.get_one::<String>("preset");
        let preset = preset.map(|name| Ok((name.clone(), Sampling::preset(name)?))).transpose();
        let mut values = Vec::new();
        for param in params() {
            if !is_switch(param) {
                let texts = matches.get_many::<String>(param.name).into_iter().flatten();
                values.extend(texts.map(|text| (param, text.clone())));
            } else if matches.get_flag(param.name) {
                values.push((param, "true".to_owned()));
            }
        }
        let args = SamplingArgs { preset: preset.map_err(invalid)?, values };
        args.sampling().map_err(invalid)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = SamplingArgs::from_arg_matches(matches)?;
        Ok(())
    }
}
