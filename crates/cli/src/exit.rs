//! How the program ends: exit status, message and hint of every error.

use crate::table;
use std::io::ErrorKind;
use std::process::ExitCode;

/// Exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done = 0,
    /// The work failed.
    Work = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The model file cannot be opened, or makes no sense.
    Model = 3,
    /// Slower than the baseline.
    Regression = 4,
    /// `trine doctor` found something.
    Findings = 5,
    /// By Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error of the command line that its grammar cannot express.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Usage {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: &'static str,
}

/// Says what went wrong, in one sentence and with a hint.
pub fn report(error: &anyhow::Error) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Done;
    }
    let (exit, hint) = diagnose(error);
    // What was done comes before what went wrong; an error by itself says it all.
    let said = if error.is::<String>() { 2 } else { 1 };
    let texts: Vec<String> = error.chain().take(said).map(ToString::to_string).collect();
    note!("error: {}", table::visible(&texts.join(": ")));
    if let Some(hint) = hint {
        note!("hint: {hint}");
    }
    exit
}

/// Whether nobody reads what the program prints any more, which is no failure.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let system = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    error.chain().any(system)
}

/// The exit status and the hint that an error deserves.
fn diagnose(error: &anyhow::Error) -> (Exit, Option<&'static str>) {
    if let Some(usage) = error.downcast_ref::<Usage>() {
        return (Exit::Usage, Some(usage.hint));
    }
    if let Some(error) = error.downcast_ref::<trine::model::Error>() {
        return of_model(error);
    }
    if let Some(error) = error.downcast_ref::<trine::tensor::Error>() {
        return (Exit::Model, of_file(error));
    }
    if let Some(error) = error.downcast_ref::<trine_lab::Error>() {
        return of_lab(error);
    }
    if let Some(error) = error.downcast_ref::<trine_lab::bench::Error>() {
        return of_bench(error);
    }
    if let Some(error) = error.downcast_ref::<trine::train::Error>() {
        return of_train(error);
    }
    match error.downcast_ref::<trine::Error>() {
        Some(trine::Error::Model(error)) => of_model(error),
        Some(trine::Error::Engine(error)) => of_engine(error),
        Some(trine::Error::MemoryLimit { .. }) => {
            (Exit::Work, Some("raise --mem-limit, or give less --context or a smaller --batch"))
        }
        Some(trine::Error::Text(_)) => (Exit::Work, Some("--raw goes without the chat template")),
        _ => (Exit::Work, None),
    }
}

fn of_lab(error: &trine_lab::Error) -> (Exit, Option<&'static str>) {
    use trine_lab::Error;
    match error {
        Error::File(error) => (Exit::Model, of_file(error)),
        Error::Model(error) => of_model(error),
        Error::Cancelled => (Exit::Interrupted, None),
        Error::Engine(error) => of_engine(error),
        Error::Backend(error) => of_device(error),
        Error::Window { .. } => (Exit::Usage, Some("`trine info` shows the context of a model")),
        Error::Exists { .. } => {
            (Exit::Work, Some("--resume goes on with it; otherwise delete it or give another name"))
        }
        Error::NotTernary { .. } => (Exit::Work, Some("take q4_k or another format that holds any weights")),
        _ => (Exit::Work, None),
    }
}

fn of_train(error: &trine::train::Error) -> (Exit, Option<&'static str>) {
    use trine::train::Error;
    match error {
        Error::Model(error) => of_model(error),
        Error::File(error) => (Exit::Model, of_file(error)),
        Error::Device(error) => of_device(error),
        Error::Cancelled => (Exit::Interrupted, None),
        Error::Checkpoint { earlier: Some(_), .. } => {
            (Exit::Work, Some("delete the file, and --resume continues from the checkpoint before it"))
        }
        Error::Checkpoint { .. } => (Exit::Work, Some("it was the only one: --fresh starts over")),
        Error::NoCheckpoint { .. } => (Exit::Work, Some("omit --resume to start the run")),
        Error::Busy { .. } => (Exit::Work, Some("wait for it, or give another output.folder")),
        _ => (Exit::Work, None),
    }
}

fn of_bench(error: &trine_lab::bench::Error) -> (Exit, Option<&'static str>) {
    use trine_lab::bench::Error;
    match error {
        Error::Cancelled => (Exit::Interrupted, None),
        Error::Context { .. } => (Exit::Usage, Some("give less --prefill, --decode or --depth")),
        Error::Another { .. } | Error::OtherTests { .. } => {
            (Exit::Usage, Some("--save-baseline makes one of what runs here"))
        }
        Error::Model(trine::model::Error::Device(_)) => {
            (Exit::Work, Some("give less --prefill, --decode, --depth or --batch"))
        }
        Error::Model(error) => of_model(error),
        _ => (Exit::Work, None),
    }
}

fn of_engine(error: &trine::engine::Error) -> (Exit, Option<&'static str>) {
    use trine::engine::Error;
    match error {
        Error::Option { .. } | Error::UnknownPreset { .. } | Error::Zero { .. } => (Exit::Usage, None),
        Error::Context { .. } => (Exit::Usage, Some("`trine info` shows the context of a model")),
        Error::PromptTooLong { .. } => {
            (Exit::Work, Some("shorten the prompt, or give more --context if the model has it"))
        }
        Error::BeyondVocabulary { .. } => (Exit::Usage, Some("`trine tokenize` shows the ids of tokens")),
        Error::CacheTooLarge { .. } => (Exit::Work, Some("give less --context")),
        Error::Model(trine::model::Error::Device(error)) => match of_device(error) {
            (Exit::Work, None) => (Exit::Work, Some("give less --context")),
            other => other,
        },
        Error::Model(error) => of_model(error),
        Error::Forward(error) => of_model(error),
        _ => (Exit::Work, None),
    }
}

fn of_device(error: &trine::backend::Error) -> (Exit, Option<&'static str>) {
    use trine::backend::Error;
    match error {
        Error::Affinity { .. } => (Exit::Usage, Some("`trine devices` shows the CPUs")),
        Error::Lock { .. } => (
            Exit::Work,
            Some(
                "raise the limit with `ulimit -l unlimited` or, for a service, LimitMEMLOCK=infinity; or go without --mlock",
            ),
        ),
        Error::Unfit { .. } => (Exit::Model, None),
        Error::Damaged(_) => (Exit::Model, Some("`trine doctor` looks for what is wrong with the file")),
        Error::NoMemory { .. } => (Exit::Work, Some("--huge-pages off leaves the weights in the mapped file")),
        _ => (Exit::Work, None),
    }
}

fn of_model(error: &trine::model::Error) -> (Exit, Option<&'static str>) {
    use trine::model::Error;
    let hint = match error {
        Error::In { source, .. } => return of_model(source),
        Error::Cancelled => return (Exit::Interrupted, None),
        Error::Device(error) => return of_device(error),
        Error::Length { .. } => return (Exit::Work, Some("embed a longer text in parts")),
        Error::File(error) => of_file(error),
        Error::NotWeights { .. } => Some("get the model in BF16, or quantised by a method that its config.json names"),
        Error::UnknownDevice { .. } => return (Exit::Usage, Some("`trine devices` shows what this machine has")),
        Error::NoConfig { .. } => Some("get the config.json of the model, too"),
        Error::NoTokenizer { .. } => Some("give one with --tokenizer FILE"),
        Error::UnknownArch { .. } => Some("`trine info` shows what the file holds"),
        Error::Vocabulary { .. } => Some("give the tokenizer of this very model with --tokenizer FILE"),
        Error::NotFinite { .. } => Some("get or convert the file again; `trine doctor` looks for the tensor"),
        Error::Text(_) => Some("another tokenizer can be given with --tokenizer FILE"),
        _ => None,
    };
    (Exit::Model, hint)
}

fn of_file(error: &trine::tensor::Error) -> Option<&'static str> {
    use trine::tensor::Error;
    match error.cause() {
        Error::Io(error) if error.kind() == ErrorKind::NotFound => Some("check the path"),
        Error::NotAModel { .. } => Some("models are GGUF files, safetensors files, or folders with one of them"),
        Error::Folder { .. } => Some("name the file itself"),
        Error::MissingShard { .. } => Some("all shards of a model belong in one folder"),
        Error::Truncated { .. } => Some("the file seems truncated: download it again"),
        _ => None,
    }
}
