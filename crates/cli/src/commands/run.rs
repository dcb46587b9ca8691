use crate::answer::{self, Answer};
use crate::chat::Chat;
use crate::exit::{Exit, Usage};
use crate::load::{self, LoadArgs};
use crate::profile::Profiling;
use crate::sampling::SamplingArgs;
use crate::{input, interrupt};
use anyhow::Result;
use clap::Args;
use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf, is_separator};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use trine::backend::profile::{Part, Recorder};
use trine::engine::Request;
use trine::text::Message;
use trine::{EMBEDDED, Llm};

/// Answer a prompt, or chat
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine run \"Once upon a time\"                           a story by the small model that is part of trine\n  \
    trine run                                              each line that you write begins a story\n  \
    trine run model.gguf                                   chat\n  \
    trine run model.gguf \"Why is the sky blue?\"            one answer\n  \
    trine run model.gguf \"Once upon a time\" --raw --echo   go on with a text\n  \
    echo \"Hello\" | trine run model.gguf                    a prompt from a pipe\n  \
    trine run model.gguf \"Hello\" --temperature 0 --json    for programs\n\n\
    An argument that stands alone is a model if there is a file or folder of this name, if it ends with .gguf, \
    .safetensors or .json, or if it has the separator of paths and no space; otherwise it is a prompt. Without a model, \
    the small one that is part of trine continues the prompt as plain text; it can be named, too, here and in all other \
    commands: `embedded:stories`.\n\n\
    Only the answer goes to stdout; all else to stderr. Ctrl-C stops when the batch at work is done (a smaller --batch \
    makes that sooner); a second Ctrl-C ends the program at once.")]
pub struct Run {
    /// A GGUF or safetensors file, or a folder with one [default: the small model that is part of trine]
    model: Option<PathBuf>,
    /// The prompt; `-` or none reads it from standard input, and on a terminal none begins a chat
    prompt: Option<String>,
    /// Continue the prompt as plain text, without the model's chat template
    #[arg(long)]
    raw: bool,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Print the prompt before the answer
    #[arg(long, conflicts_with = "json")]
    echo: bool,
    /// Print one line of JSON instead of the text; what is not known is null
    #[arg(long)]
    json: bool,
    /// No warnings, no numbers at the end
    #[arg(short, long)]
    quiet: bool,
    /// Say where threads and weights are
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Write where the time goes to a file that Perfetto and chrome://tracing open, and print a summary
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// What is run, and what it gets; without a prompt, a chat.
struct Asked {
    model: PathBuf,
    prompt: Option<String>,
}

/// Whether an argument that stands alone names a model, and is no prompt.
fn is_model(argument: &Path) -> bool {
    let Some(text) = argument.to_str() else { return true };
    let ends = |end: &OsStr| ["gguf", "safetensors", "json"].iter().any(|known| end.eq_ignore_ascii_case(known));
    let path_like = text.contains(is_separator) || text.starts_with("embedded:");
    argument.exists() || argument.extension().is_some_and(ends) || path_like && !text.contains(char::is_whitespace)
}

impl Run {
    pub fn run(mut self) -> Result<Exit> {
        let mut why = "";
        if self.prompt.is_none() && self.model.as_deref().is_some_and(|argument| !is_model(argument)) {
            self.prompt = self.model.take().map(|argument| argument.display().to_string());
            if self.prompt.as_deref() != Some("-") {
                why = "there is no file of this name, so it is the prompt; ";
            }
        }
        let prompt = match self.prompt.as_deref() {
            Some("-") => Some(input::text()?),
            None if !std::io::stdin().is_terminal() => Some(input::text()?),
            prompt => prompt.map(str::to_owned),
        };
        if prompt.is_none() && self.json {
            let message = "--json needs a prompt".to_owned();
            return Err(Usage { message, hint: "give it as an argument or through a pipe" }.into());
        }
        if self.sampling.0.logprobs.is_some() && !self.json {
            let message = "--logprobs shows in --json only".to_owned();
            return Err(Usage { message, hint: "add --json" }.into());
        }
        let model = self.model.take().map_or_else(|| load::unnamed(why, self.quiet), Ok)?;
        let stop = interrupt::flag()?;
        let start = Instant::now();
        let load = &self.load;
        let profile = self.profile.as_ref().map(|path| Profiling::new(path, &model)).transpose()?;
        let recorder = profile.as_ref().map(|profile| profile.recorder.clone());
        let llm = load.open(&model, 1, self.quiet, &stop, recorder.clone())?;
        let recorder = recorder.unwrap_or_default();
        let exit = self.answer(llm, Asked { model, prompt }, start.elapsed(), stop, &recorder)?;
        if let Some(profile) = profile {
            profile.finish()?;
        }
        Ok(exit)
    }

    /// Answers the prompt, or chats when there is none.
    fn answer(
        self,
        mut llm: Llm,
        Asked { model, prompt }: Asked,
        load_time: Duration,
        stop: Arc<AtomicBool>,
        recorder: &Recorder,
    ) -> Result<Exit> {
        if !self.quiet {
            note!("context {}, threads {}, {}", llm.context(), llm.threads(), llm.isa());
        }
        if self.verbose {
            // Nobody need read it.
            let _ = load::placement(&llm).print(&mut std::io::stderr());
        }
        let stories = model == Path::new(EMBEDDED);
        let raw = self.raw || !llm.has_template();
        // Of the model that writes stories nobody expects a chat, except who gives --system.
        let expected = self.raw || stories && self.system.is_none();
        if raw && !expected && !self.quiet {
            let system = if self.system.is_some() { ", without --system" } else { "" };
            note!("note: the model has no chat template: the prompt is continued as plain text{system}");
        }
        let mut sampling = self.sampling.0;
        let Some(prompt) = prompt else {
            let (system, quiet, recorder) = (self.system, self.quiet, recorder.clone());
            return Chat { llm, sampling, system, raw, stories, quiet, stop, recorder }.run();
        };
        let seed = *sampling.seed.get_or_insert_with(|| RandomState::new().build_hasher().finish());
        if self.echo {
            answer::print(&prompt)?;
        }
        let text = if raw {
            prompt
        } else {
            let system = self.system.map(|text| Message::new("system", text));
            let messages: Vec<Message> = system.into_iter().chain([Message::new("user", prompt)]).collect();
            llm.render(&messages)?
        };
        recorder.start();
        let ids = recorder.time("tokenize", Part::Tokenizer, || llm.tokens(&text));
        let ends: Vec<u32> = llm.tokenizer().eog_tokens().collect();
        let stream = llm.submit(Request::new(ids, sampling))?.stop_when(stop);
        let show = |piece: &str| if self.json { Ok(()) } else { answer::print(piece) };
        let answer = Answer::of(stream, |id| ends.contains(&id), show)?;
        recorder.stop();
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut report = answer.json(llm.tokenizer(), load_time);
            report["model"] = model.display().to_string().into();
            report["seed"] = seed.into();
            writeln!(out, "{report}")?;
        } else if out.is_terminal() && !answer.text.ends_with('\n') {
            writeln!(out)?;
        }
        if !self.quiet {
            note!("{}", answer.summary());
        }
        Ok(if answer.finish == "cancelled" { Exit::Interrupted } else { Exit::Done })
    }
}
