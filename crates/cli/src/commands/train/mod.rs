//! `trine train`: trains a model from a configuration.

mod chart;
mod config;
mod curve;
mod log;
mod plan;
mod plot;
mod sample;
mod value;
mod view;
mod watch;

use crate::exit::{Exit, UsageError, is_closed_pipe};
use crate::profile::{ProfileArgs, Work, training_summary};
use crate::table::Facts;
use crate::terminal::Quiet;
use crate::{interrupt, measure, progress, units};
use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use log::Log;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use trine_kernels::cpus::Topology;
use trine_tensor::memory;
use trine_train::{Finished, SetupProgress, Trainer, checkpoints};
use view::{RunView, ViewStyle};
use watch::Watch;

/// Train a model
///
/// Ctrl-C writes a checkpoint and exits; a second Ctrl-C exits at once. The output folder receives checkpoints, log.jsonl (every
/// event) and loss.svg. Paths in a configuration are relative to it, those of --set to the current folder.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine train --example > config.toml          write an example configuration\n  \
    trine train config.toml --plan               estimate memory and time\n  \
    trine train config.toml                      train, and write a GGUF file\n  \
    trine train config.toml --resume             continue from the last checkpoint\n  \
    trine train config.toml --set train.steps=100 --set output.folder=try\n  \
    trine train config.toml --json | jq .loss    every event as a line of JSON\n  \
    trine train config.toml --set train.steps=20 --profile trace.json")]
pub struct Train {
    /// Configuration file (TOML)
    #[arg(required_unless_present = "example")]
    config: Option<PathBuf>,
    /// Print an example configuration with every key
    #[arg(long, conflicts_with_all = ["config", "plan", "resume", "fresh", "set", "profile"])]
    example: bool,
    /// Estimate memory and time without training
    #[arg(long, conflicts_with_all = ["resume", "fresh", "profile"])]
    plan: bool,
    /// Continue from the last checkpoint in the output folder
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Delete the checkpoints in the output folder and start over
    #[arg(long)]
    fresh: bool,
    /// Override a value, such as train.steps=100; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Number of threads, same as --set train.threads=N
    #[arg(long, value_name = "N", env = "TRINE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Print every event as a line of JSON
    #[arg(long)]
    json: bool,
    /// Show only warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    profile: ProfileArgs,
}

impl Train {
    pub fn run(self) -> Result<Exit> {
        let Some(path) = &self.config else {
            write!(std::io::stdout(), "{}", config::EXAMPLE)?;
            return Ok(Exit::Done);
        };
        let (mut config, source) = config::read(path, &self.set)?;
        config.train.threads = self.threads.map(|threads| threads as usize).or(config.train.threads);
        let threads = config.train.threads.unwrap_or_else(|| Topology::read().threads());
        if self.plan {
            let plan = Trainer::plan(&config).map_err(|error| source.explain(error))?;
            plan::print(&plan, threads, self.json)?;
            return Ok(Exit::Done);
        }
        let folder = &config.output.folder;
        if !self.resume && !self.fresh && !checkpoints(folder).is_empty() {
            let message = format!("{}: expected a folder without checkpoints, found those of a run", folder.display());
            return Err(UsageError {
                message,
                hint: "--resume continues from the last one, --fresh deletes them and starts over",
            }
            .into());
        }
        let profile = self.profile.open(Work::Training, path)?;
        self.check_profile(&config.output.model_path())?;
        let stop = interrupt::patient_flag()?;
        let style = self.style();
        // Keys that are typed would be shown in the picture.
        let _quiet = (style == ViewStyle::Picture).then(Quiet::new);
        let bar = setup_bar(style);
        let mut prepare = |SetupProgress { what, done, total }| {
            bar.set_message(what);
            bar.set_length(total);
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        plan::check(&Trainer::plan(&config).map_err(|error| source.explain(error))?)?;
        let mut trainer = match Trainer::new(&config, self.resume, &mut prepare) {
            Err(trine_train::Error::Cancelled) => {
                bar.finish_and_clear();
                note!("stopped before the first step: start again with `{}`", self.command(path, self.resume));
                return Ok(Exit::Interrupted);
            }
            trainer if self.resume => trainer.map_err(|error| source.explain_resume(error))?,
            trainer => trainer.map_err(|error| source.explain(error))?,
        };
        if self.fresh {
            for old in checkpoints(folder) {
                std::fs::remove_file(&old).with_context(|| old.display().to_string())?;
            }
        }
        let peak = if style == ViewStyle::Nothing {
            None
        } else {
            let _ = prepare(SetupProgress { what: "measuring the f32 peak", done: 0, total: 0 });
            measure::f32_peak(threads)
        };
        bar.finish_and_clear();
        let mut watch = Watch {
            log: Log::open(folder, self.resume)?,
            view: RunView::new(style, peak),
            step: None,
            json: self.json,
            prompts: &config.output.sample_prompts,
            threads,
            stop: stop.clone(),
            failed: None,
        };
        if trainer.step() >= config.train.steps {
            note!("all steps are done ({}): increase train.steps to continue", units::count(trainer.step()));
        }
        if let Some(profile) = &profile {
            trainer.set_recorder(profile.recorder.clone());
            profile.recorder.start();
        }
        let finished = trainer.run(&mut |event| watch.event(event));
        watch.log.finish()?;
        watch.view.finish(&watch.log.curve);
        profile.map_or(Ok(()), |profile| profile.write(self.quiet, training_summary))?;
        if let (Some(error), Ok(finished)) = (watch.failed.take(), &finished) {
            note!("stopped after step {}: continue with `{}`", finished.steps, self.command(path, true));
            return if is_closed_pipe(&error) { Ok(Exit::Done) } else { Err(error) };
        }
        let finished = finished?;
        let plot = folder.join("loss.svg");
        plot::write(&plot, &finished.model, &folder.display().to_string(), &watch.log.curve)?;
        if self.json {
            let Finished { model, steps, stopped } = &finished;
            let loss = watch.log.curve.points.last().map(|point| point.smooth);
            let line = json!({
                "event": "finished", "step": steps, "model": model, "stopped": stopped, "smoothed_loss": loss,
                "peak_memory_bytes": memory::peak_resident(),
            });
            writeln!(std::io::stdout(), "{line}")?;
        }
        if finished.stopped {
            note!("stopped after step {}: continue with `{}`", finished.steps, self.command(path, true));
            return Ok(Exit::Interrupted);
        }
        if !self.json {
            summarize(&finished, &watch, &plot)?;
        }
        Ok(Exit::Done)
    }

    /// Refuses a profile in place of the model.
    fn check_profile(&self, model: &Path) -> Result<(), UsageError> {
        let is_model = |path: &Path| std::path::absolute(path).ok() == std::path::absolute(model).ok();
        match &self.profile.profile {
            Some(path) if is_model(path) => {
                let message = format!("{}: expected another file, found that of the model", path.display());
                Err(UsageError { message, hint: "choose another name" })
            }
            _ => Ok(()),
        }
    }

    /// The command that starts this run, or resumes it.
    fn command(&self, config: &Path, resume: bool) -> String {
        let mut words = vec!["trine train".to_owned(), quoted(&config.display().to_string())];
        for set in &self.set {
            words.extend(["--set".to_owned(), quoted(set)]);
        }
        words.extend(self.threads.map(|threads| format!("--threads {threads}")));
        let flags =
            [(resume, "--resume"), (!resume && self.fresh, "--fresh"), (self.json, "--json"), (self.quiet, "--quiet")];
        words.extend(flags.iter().filter(|(given, _)| *given).map(|(_, flag)| (*flag).to_owned()));
        words.join(" ")
    }

    /// A picture on a terminal, unless events are printed to it; lines elsewhere.
    fn style(&self) -> ViewStyle {
        if self.quiet {
            ViewStyle::Nothing
        } else if std::io::stderr().is_terminal() && !(self.json && std::io::stdout().is_terminal()) {
            ViewStyle::Picture
        } else {
            ViewStyle::Lines
        }
    }
}

/// The progress bar until the first step.
fn setup_bar(style: ViewStyle) -> ProgressBar {
    if style == ViewStyle::Nothing {
        return ProgressBar::hidden();
    }
    progress::bar("{msg} {bar:30} {percent} % {eta}", 0)
}

/// Prints the results, and how to use the model.
fn summarize(finished: &Finished, watch: &Watch, plot: &Path) -> Result<()> {
    let mut facts = Facts::default();
    let size = std::fs::metadata(&finished.model).map_or("unknown".to_owned(), |file| units::bytes(file.len()));
    facts.push("model", format!("{} ({size})", finished.model.display()));
    let loss = watch.log.curve.points.last().map_or("unknown".to_owned(), |point| format!("{:.4}", point.smooth));
    let time = units::duration(watch.view.seconds());
    facts.push("training", format!("smoothed loss {loss} after {}, {time}", units::plural(finished.steps, "step")));
    if let Some(validation) = watch.view.last_validation() {
        facts.push("validation", view::describe(validation));
    }
    facts.push("curve", plot.display().to_string());
    facts.push("run it", format!("trine run {} \"Once upon a time\"", quoted(&finished.model.display().to_string())));
    facts.print(&mut std::io::stdout().lock())?;
    Ok(())
}

/// A word, quoted for a shell if necessary.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
