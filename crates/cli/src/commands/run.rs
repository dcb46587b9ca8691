use crate::answer::TimedAnswer;
use crate::chat::{Chat, ChatSetup};
use crate::constraint::ConstraintArgs;
use crate::exit::{self, Exit, UsageError};
use crate::load::{self, EngineArgs, LoadArgs};
use crate::profile::{ProfileArgs, Profiling, Work};
use crate::sampling::{self, SamplingArgs};
use crate::template::{self, TemplateArgs};
use crate::terminal::Quiet;
use crate::warm::{self, WarmArgs};
use crate::wrap::Printer;
use crate::{choices, input, interrupt, memory, table};
use anyhow::Result;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf, is_separator};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use trine::{EMBEDDED, Error, Llm};
use trine_backend::profile::Part;
use trine_engine::{FinishReason, Prompt, Request};
use trine_grammar::Grammar;
use trine_lab::bench::RequestRecord;
use trine_text::Message;

/// Answer a prompt, or chat
///
/// A single argument is a model if a file or folder of this name exists, if it ends with .gguf, .safetensors or .json, or if it
/// is one word or a path without spaces; otherwise it is a prompt. Without a model, the small model built into trine continues
/// the prompt as plain text. Its name is `embedded:stories`, here and in all other commands.
///
/// Only the answer goes to stdout. Ctrl-C stops it after the current batch, which a smaller --batch makes shorter; a second
/// Ctrl-C exits at once.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine run \"Once upon a time\"                 a story by the built-in model\n  \
    trine run                                    every line begins a story\n  \
    trine run model.gguf                         chat\n  \
    trine run model.gguf \"Why is the sky blue?\"  one answer\n  \
    trine run model.gguf \"Once upon\" --raw       continue a text\n  \
    echo \"Hello\" | trine run model.gguf          read the prompt from a pipe\n  \
    trine run model.gguf \"Hello\" --json          output for programs\n  \
    trine run \"The cat is\" --choices big,small   one of these answers")]
pub struct Run {
    /// Model: a GGUF or safetensors file, or its folder [default: built-in]
    #[arg(value_parser = OsStringValueParser::new().map(PathBuf::from))]
    model: Option<PathBuf>,
    /// Prompt; `-` reads it from stdin
    ///
    /// Without a prompt, it is read from stdin as well, unless that is a terminal, where a chat begins.
    prompt: Option<String>,
    /// Continue the prompt as plain text, without the chat template
    #[arg(long)]
    raw: bool,
    /// System message, before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Forget the oldest messages of a chat when the context is full
    #[arg(long, hide_short_help = true)]
    drop_oldest: bool,
    /// Print the prompt before the answer, as plain text does on a terminal
    #[arg(long, conflicts_with = "json", hide_short_help = true)]
    echo: bool,
    /// Print one line of JSON; unknown values are null
    #[arg(long)]
    json: bool,
    /// Print no warnings and no statistics
    #[arg(short, long)]
    quiet: bool,
    /// Show the placement of threads and weights
    #[arg(short, long, conflicts_with = "quiet", hide_short_help = true)]
    verbose: bool,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    engine_args: EngineArgs,
    #[command(flatten)]
    warm: WarmArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    constraint: ConstraintArgs,
}

/// Answers that are generated at once: each has memory for a whole context.
const MOST_AT_ONCE: usize = 16;

/// Whether a single argument is a model, not a prompt.
fn is_model(argument: &Path) -> bool {
    let Some(text) = argument.to_str() else { return true };
    let ends = |end: &OsStr| ["gguf", "safetensors", "json"].iter().any(|known| end.eq_ignore_ascii_case(known));
    let path_like = text.contains(is_separator) && !text.contains(char::is_whitespace);
    argument.exists() || argument.extension().is_some_and(ends) || path_like || is_name(text)
}

/// Whether a word could be the name of a model, such as `llama3` or `qwen3:8b`.
fn is_name(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:@+".contains(c);
    text.contains(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(known)
}

impl Run {
    pub fn run(mut self) -> Result<Exit> {
        if self.prompt.is_some() && self.model.as_ref().is_some_and(|model| model.as_os_str().is_empty()) {
            let message = "expected a model before the prompt, found an empty name".to_owned();
            return Err(UsageError { message, hint: "omit it for the built-in model" }.into());
        }
        let mut why = "";
        if let Some(argument) = self.model.take_if(|argument| self.prompt.is_none() && !is_model(argument)) {
            self.prompt = Some(argument.display().to_string());
            if self.prompt.as_deref() != Some("-") {
                why = ", and no file has this name";
            }
        }
        if let Some(word) = self.model.as_ref().filter(|model| self.prompt.is_none() && !model.exists())
            && word.to_str().is_some_and(|word| word != EMBEDDED && is_name(word))
        {
            let word = table::visible(&word.display().to_string());
            let word = if word.starts_with('-') { format!("-- {word}") } else { word };
            note!("note: one word is a model; as a prompt: trine run {EMBEDDED} {word}");
        }
        let prompt = match self.prompt.as_deref() {
            Some("-") => Some(input::text()?),
            None if !std::io::stdin().is_terminal() => Some(input::text()?),
            prompt => prompt.map(str::to_owned),
        };
        if prompt.is_none() && self.json {
            let message = "--json needs a prompt".to_owned();
            return Err(UsageError { message, hint: "pass it as an argument or through a pipe" }.into());
        }
        for (flag, given) in [("--show-prompt", self.template.show_prompt), ("--echo", self.echo)] {
            if prompt.is_none() && given {
                let message = format!("{flag} needs a prompt");
                return Err(UsageError { message, hint: "pass it as an argument or through a pipe" }.into());
            }
        }
        let sampling = self.sampling.sampling()?;
        let answers = sampling.best_of.unwrap_or(sampling.n);
        if prompt.is_none() && answers > 1 {
            let message = "-n and --best-of need a prompt".to_owned();
            return Err(UsageError { message, hint: "pass it as an argument or through a pipe" }.into());
        }
        for (flag, n) in [("--logprobs", sampling.logprobs), ("--prompt-logprobs", sampling.prompt_logprobs)] {
            if n.is_some() && !self.json {
                let message = format!("{flag} needs --json");
                return Err(UsageError { message, hint: "add --json" }.into());
            }
        }
        self.constraint.constraint()?;
        let model = self.model.take().map_or_else(|| load::unnamed(why, self.quiet), Ok)?;
        if let Some(prompt) = prompt.as_ref().filter(|_| self.template.show_prompt) {
            return self.show_prompt(&model, prompt);
        }
        self.engine_args.check(self.quiet)?;
        let prefixes = self.warm.read()?;
        let stop = interrupt::flag()?;
        // Keys that are typed before a chat asks for them wait.
        let _quiet = prompt.is_none().then(Quiet::new);
        let start = Instant::now();
        let (load, quiet) = (&self.load, self.quiet);
        let mut profile = self.profile.open(Work::Engine, &model)?.unwrap_or_default();
        let answers = answers.min(MOST_AT_ONCE);
        let mut llm = load.open(&model, answers, quiet, &stop, profile.recorder(), &self.engine_args)?;
        if warm::fill(&mut llm, &prefixes, &stop, quiet)?.is_break() {
            return Ok(Exit::Interrupted);
        }
        let exit = self.answer(llm, &model, prompt, start.elapsed(), stop, &mut profile)?;
        profile.finish(quiet)?;
        Ok(exit)
    }

    /// Prints the prompt as the model would get it.
    fn show_prompt(&self, model: &Path, prompt: &str) -> Result<Exit> {
        let template = match self.load.open_template(model) {
            _ if self.raw => None,
            Err(Error::NoTemplate) if !self.template.any() => None,
            template => Some(template?),
        };
        let options = self.template.options();
        match template {
            Some((template, tokenizer)) => {
                if !self.quiet {
                    template::note_unused(&options, &template);
                }
                template::show(options.render(&template, &tokenizer, &self.messages(prompt))?.text())?;
            }
            None => {
                if self.system.is_some() && !self.quiet {
                    note!("note: the model has no chat template: the prompt is plain text, without --system");
                }
                template::show(prompt)?;
            }
        }
        Ok(Exit::Done)
    }

    /// The prompt as a message, after the system message if there is one.
    fn messages(&self, prompt: &str) -> Vec<Message> {
        let system = self.system.as_ref().map(|text| Message::new("system", text.as_str()));
        system.into_iter().chain([Message::new("user", prompt)]).collect()
    }

    /// Answers the prompt, or chats without one.
    fn answer(
        self,
        mut llm: Llm,
        model: &Path,
        prompt: Option<String>,
        load_time: Duration,
        stop: Arc<AtomicBool>,
        profile: &mut Profiling,
    ) -> Result<Exit> {
        if !self.quiet {
            aside!("context {}, threads {}, {}", llm.context(), llm.threads(), llm.isa());
        }
        if self.verbose {
            // A closed stderr is not an error.
            let _ = crate::machine::placement(&llm).print(&mut std::io::stderr());
        }
        let raw = self.raw || !llm.has_template() && !self.template.any();
        let stories = raw && model == Path::new(EMBEDDED);
        let options = self.template.options();
        if !raw {
            let template = llm.template()?;
            template.source(options.tools.is_some())?;
            if !self.quiet {
                template::note_unused(&options, template);
            }
        }
        // The built-in model writes stories; only --system expects a chat.
        let expected = self.raw || stories && self.system.is_none();
        if raw && !expected && !self.quiet {
            let system = if self.system.is_some() { ", without --system" } else { "" };
            note!("note: the model has no chat template: continuing the prompt as plain text{system}");
        }
        if let Some(preset) = self.sampling.shown_preset().filter(|_| self.verbose) {
            aside!("{preset}");
        }
        let mut sampling = self.sampling.recommended(llm.generation(), self.quiet)?;
        let constraint = self.constraint.constraint()?;
        if constraint.is_some() {
            sampling = sampling.without_stops();
        }
        let grammar = constraint.map(|constraint| llm.grammar(&constraint)).transpose()?;
        let pace = self.load.pace(self.quiet);
        let Some(prompt) = prompt else {
            let setup = ChatSetup {
                sampling,
                grammar,
                system: self.system,
                template: options,
                raw,
                stories,
                drop_oldest: self.drop_oldest,
                quiet: self.quiet,
                pace,
                model: model.to_owned(),
                engine_args: self.engine_args,
            };
            return Chat::new(llm, setup, stop, profile).run();
        };
        let seed = *sampling.seed.get_or_insert_with(sampling::random_seed);
        let mut out = Printer::new();
        if self.echo || raw && !self.json && std::io::stdout().is_terminal() {
            out.print(&prompt)?;
        }
        let prompt: Prompt = match raw {
            true => prompt.into(),
            false => llm.render_with(&self.messages(&prompt), &options)?.into(),
        };
        profile.recorder.start();
        let ids = profile.recorder.time("tokenize", Part::Tokenizer, || llm.tokens(prompt));
        let filters = grammar.iter().map(Grammar::filter).collect();
        let several = sampling.n > 1 || sampling.best_of.is_some();
        let request = Request { filters, ..Request::new(ids, sampling) };
        if several {
            let choices = llm.choices(request, || !stop.load(Relaxed))?;
            profile.recorder.stop();
            profile.requests.extend(choices.iter().map(|choice| RequestRecord {
                usage: choice.usage,
                timing: choice.timing,
                finish_reason: choice.finish_reason.name(),
            }));
            self.engine_args.warn(llm.close_disk_cache(), self.quiet);
            return choices::show(&choices, &llm, model, seed, self.json);
        }
        let stream = llm.submit(request)?.stop_when(stop);
        let answer = TimedAnswer::of(stream, pace, |piece| if self.json { Ok(()) } else { out.print(piece) });
        profile.recorder.stop();
        if !self.json && !answer.as_ref().is_err_and(exit::is_closed_pipe) {
            out.end_line()?;
        }
        let answer = answer?;
        profile.requests.push(answer.record());
        if self.json {
            let mut report = answer.json(llm.tokenizer(), load_time);
            report["model"] = model.display().to_string().into();
            report["seed"] = seed.into();
            report["memory"] = memory::report(&llm);
            writeln!(std::io::stdout(), "{report}")?;
        }
        if !self.quiet {
            aside!("{}", answer.summary());
        }
        if self.verbose {
            note!("{}", memory::comparison(&llm));
        }
        self.engine_args.warn(llm.close_disk_cache(), self.quiet);
        Ok(if matches!(answer.finish, FinishReason::Cancelled) { Exit::Interrupted } else { Exit::Done })
    }
}
