use crate::answer::{self, Answer};
use crate::chat::Chat;
use crate::exit::{Exit, Usage};
use crate::load::{self, LoadArgs};
use crate::profile::Profiling;
use crate::sampling::SamplingArgs;
use crate::{input, interrupt};
use anyhow::Result;
use clap::Args;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use trine::Llm;
use trine::backend::Backend;
use trine::backend::profile::{Part, Profile, Recorder};
use trine::text::Message;

/// Answer a prompt, or chat
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine run model.gguf                                   chat\n  \
    trine run model.gguf \"Why is the sky blue?\"            one answer\n  \
    trine run model.gguf \"Once upon a time\" --raw --echo   go on with a text\n  \
    echo \"Hello\" | trine run model.gguf                    a prompt from a pipe\n  \
    trine run model.gguf \"Hello\" --temperature 0 --json    for programs\n\n\
    Only the answer goes to stdout; all else to stderr. Ctrl-C stops when the batch at work is done (a smaller --batch \
    makes that sooner); a second Ctrl-C ends the program at once.")]
pub struct Run {
    /// A GGUF or safetensors file, or a folder with one
    model: PathBuf,
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

impl Run {
    pub fn run(self) -> Result<Exit> {
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
        let stop = interrupt::flag()?;
        let start = Instant::now();
        let load = &self.load;
        let Some(path) = &self.profile else {
            let llm = load.open_on(&self.model, 1, self.quiet, &stop, |cpu| cpu)?;
            return self.answer(llm, prompt, start.elapsed(), stop, &Recorder::default());
        };
        let profile = Profiling::new(path, &self.model)?;
        let llm = load.open_on(&self.model, 1, self.quiet, &stop, |cpu| Profile::new(cpu, profile.recorder.clone()))?;
        let recorder = profile.recorder.clone();
        let exit = self.answer(llm, prompt, start.elapsed(), stop, &recorder)?;
        profile.finish()?;
        Ok(exit)
    }

    /// Answers the prompt, or chats when there is none.
    fn answer<B: Backend>(
        self,
        mut llm: Llm<B>,
        prompt: Option<String>,
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
        let mut sampling = self.sampling.0;
        let Some(prompt) = prompt else {
            let recorder = recorder.clone();
            return Chat { llm, sampling, system: self.system, raw: self.raw, quiet: self.quiet, stop, recorder }.run();
        };
        let seed = *sampling.seed.get_or_insert_with(|| RandomState::new().build_hasher().finish());
        if !self.raw && !llm.has_template() && !self.quiet {
            let system = if self.system.is_some() { ", without --system" } else { "" };
            note!("note: the model has no chat template: the prompt is continued as plain text{system}");
        }
        if self.echo {
            answer::print(&prompt)?;
        }
        let text = if self.raw || !llm.has_template() {
            prompt
        } else {
            let system = self.system.map(|text| Message::new("system", text));
            let messages: Vec<Message> = system.into_iter().chain([Message::new("user", prompt)]).collect();
            llm.render(&messages)?
        };
        recorder.start();
        let ids = recorder.time("tokenize", Part::Tokenizer, || llm.tokens(&text));
        let ends: Vec<u32> = llm.tokenizer().ends().collect();
        let stream = llm.continue_tokens(ids, &sampling)?.stop_when(stop);
        let show = |piece: &str| if self.json { Ok(()) } else { answer::print(piece) };
        let answer = Answer::of(stream, |id| ends.contains(&id), show)?;
        recorder.stop();
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut report = answer.json(llm.tokenizer(), load_time);
            report["model"] = self.model.display().to_string().into();
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
