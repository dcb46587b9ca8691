//! Exit statuses, and the messages and hints of errors.

use crate::{hub, near, secret, table};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The exit status of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// The command failed.
    Work = 1,
    /// The command line or configuration is invalid.
    Usage = 2,
    /// The model file cannot be opened, or is invalid.
    Model = 3,
    /// `trine bench` is slower than its baseline.
    Regression = 4,
    /// `trine doctor`, `trine verify` or `trine crossval` found a problem, `trine diff` a difference, or `trine batch` lines that fail.
    Findings = 5,
    /// `trine bench` cannot tell whether it is slower than its baseline, or `trine tune` what to write.
    CannotTell = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

/// All exit statuses, and what each means.
pub const STATUSES: [(Exit, &str); 8] = [
    (Exit::Done, "success"),
    (Exit::Work, "the command failed"),
    (Exit::Usage, "the command line or a configuration is invalid"),
    (Exit::Model, "the model file cannot be opened, or is invalid"),
    (Exit::Regression, "`trine bench` is slower than its baseline, or does not keep a limit"),
    (
        Exit::Findings,
        "`trine doctor`, `trine verify` or `trine crossval` found a problem, `trine diff` a difference, `trine batch` a line that fails",
    ),
    (Exit::CannotTell, "`trine bench` cannot tell whether it is slower, or keeps a limit; `trine tune` wrote no file"),
    (Exit::Interrupted, "interrupted by Ctrl-C"),
];

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error in the command line that its grammar cannot express, or in a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    pub message: String,
    pub hint: &'static str,
}

/// Prints an error and its hint, or in a line what Ctrl-C stopped, and returns the exit status.
pub fn report(error: &anyhow::Error) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Done;
    }
    let (exit, hint) = diagnose(error);
    if exit == Exit::Interrupted {
        note!("stopped{}", hint.unwrap_or_default());
        return exit;
    }
    let mut texts = vec![message(error)];
    let output = of_output(error);
    texts.splice(0..0, output.map(|_| "standard output".to_owned()));
    note!("error: {}", table::visible(&secret::without_keys(&texts.join(": "))));
    if let Some(hint) = missing(error).or(hint.map(str::to_owned)) {
        note!("hint: {}", table::visible(&secret::without_keys(&hint)));
    }
    exit
}

/// What an error says. A context is followed by its cause; the message of an error of the libraries includes its causes.
pub fn message(error: &anyhow::Error) -> String {
    let count = if error.is::<String>() { 2 } else { 1 };
    error.chain().take(count).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A hint with the models that may be meant, where there is none: at a path with no file, or in a folder.
fn missing(error: &anyhow::Error) -> Option<String> {
    fn file(error: &trine_model::Error) -> Option<&trine_tensor::Error> {
        match error {
            trine_model::Error::In { source, .. } => file(source),
            trine_model::Error::File(error) => Some(error),
            _ => None,
        }
    }
    let facade = || match error.downcast_ref()? {
        trine::Error::Model(error) => file(error),
        _ => None,
    };
    let found = error.downcast_ref().or_else(|| file(error.downcast_ref()?)).or_else(facade)?;
    let trine_tensor::Error::In { path, .. } = found else { return None };
    match found.cause() {
        trine_tensor::Error::NotFound => Some(no_model(path)),
        trine_tensor::Error::Folder { .. } => match list(near::inside(path)) {
            inside if !inside.is_empty() => Some(format!("pass one of the models in it, such as {inside}")),
            _ => None,
        },
        _ => None,
    }
}

fn list(paths: Vec<PathBuf>) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A hint about the path of a model that is not there.
pub fn no_model(path: &Path) -> String {
    match list(near::models(path)) {
        near if !near.is_empty() => format!("did you mean {near}?"),
        _ => hub::hint(path).unwrap_or_else(|| "check the path; `trine pull OWNER/REPO` downloads models".to_owned()),
    }
}

/// Whether the reader of standard output is gone, which is not an error. The reader of a file that the command line names, such as a named
/// pipe, expects all of it.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    of_output(error).is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// The error of standard output: all other files have a name.
fn of_output(error: &anyhow::Error) -> Option<&std::io::Error> {
    error.downcast_ref().filter(|_| error.chain().count() == 1)
}

/// The exit status of an error, and a hint; of what was interrupted, how "stopped" goes on.
type Diagnosis = (Exit, Option<&'static str>);

fn diagnose(error: &anyhow::Error) -> Diagnosis {
    fn of<E: std::error::Error + Send + Sync + 'static>(
        error: &anyhow::Error,
        diagnosis: fn(&E) -> Diagnosis,
    ) -> Option<Diagnosis> {
        error.downcast_ref().map(diagnosis)
    }
    of(error, |usage: &UsageError| (Exit::Usage, Some(usage.hint)))
        .or_else(|| of(error, of_model))
        .or_else(|| of(error, of_file))
        .or_else(|| of(error, of_facade))
        .or_else(|| of(error, of_grammar))
        .or_else(|| of(error, of_train))
        .or_else(|| of(error, of_bench))
        .or_else(|| of(error, of_crossval))
        .or_else(|| of(error, of_batch))
        .or_else(|| of(error, of_generate))
        .or_else(|| of(error, of_perplexity))
        .or_else(|| of(error, of_divergence))
        .or_else(|| of(error, of_imatrix))
        .or_else(|| of(error, of_tasks))
        .or_else(|| of(error, of_quantize))
        .or_else(|| of(error, of_receipt))
        .or_else(|| of(error, of_synthetic))
        .or_else(|| of(error, of_hub))
        .or_else(|| of(error, |error: &std::io::Error| (Exit::Work, full(error))))
        .unwrap_or((Exit::Work, None))
}

fn of_facade(error: &trine::Error) -> Diagnosis {
    use trine::Error;
    match error {
        Error::Model(error) => of_model(error),
        Error::Engine(error) => of_engine(error),
        Error::Grammar(error) => of_grammar(error),
        Error::MemoryLimit { .. } => (
            Exit::Work,
            Some("raise --mem-limit or TRINE_MEM_LIMIT, or lower --context, --batch or the number of sequences"),
        ),
        Error::ControlGroup { .. } => (
            Exit::Work,
            Some("raise the memory limit of the control group or container, or lower --context, --batch or --parallel"),
        ),
        Error::UnknownTemplate { .. } => (Exit::Usage, Some("--template FILE gives the model another one")),
        Error::UnknownPrompt { .. } => (Exit::Usage, Some("--no-prompt embeds the texts alone")),
        Error::Text(_) => (
            Exit::Work,
            Some(
                "--raw continues the prompt without the chat template, --template FILE and --template-name use another",
            ),
        ),
        Error::NoTemplate => {
            (Exit::Work, Some("--template FILE gives it one; otherwise omit --tools and --template-arg"))
        }
        _ => (Exit::Work, None),
    }
}

fn of_grammar(error: &trine_grammar::Error) -> Diagnosis {
    match error {
        trine_grammar::Error::Vocabulary(_) => (Exit::Model, Some("pass another tokenizer with --tokenizer FILE")),
        _ => (Exit::Usage, None),
    }
}

const NOTHING_WRITTEN: &str = ": nothing was written";
const NO_RESULTS: &str = ": there are no results";
const LONGER: &str = "pass a longer text, or lower --context";
const SHOW_CONTEXT: &str = "`trine info` shows the context length of a model";

fn of_crossval(error: &trine_lab::crossval::Error) -> Diagnosis {
    use trine_lab::crossval::Error;
    match error {
        Error::Cancelled => (Exit::Interrupted, Some(NO_RESULTS)),
        Error::Model(error) => of_model(error),
        Error::Engine(error) => of_engine(error),
        Error::Context { .. } => (Exit::Usage, Some(SHOW_CONTEXT)),
        Error::Reference { .. } => (Exit::Work, Some(REFERENCES)),
        _ => (Exit::Work, None),
    }
}

const REFERENCES: &str =
    "--reference is a llama-server by its path, the URL of one that runs, xllamacpp, or a Python that has it";

fn of_generate(error: &trine_lab::generate::Error) -> Diagnosis {
    use trine_lab::generate::Error;
    match error {
        Error::Engine(error) => of_engine(error),
        Error::Exists { .. } => (Exit::Work, Some("--force replaces it")),
        Error::Io { source, .. } => (Exit::Work, full(source)),
        _ => (Exit::Work, None),
    }
}

fn of_batch(error: &trine_api::batch::Error) -> Diagnosis {
    use trine_api::batch::Error;
    match error {
        Error::Io { source, .. } => (Exit::Work, full(source)),
        _ => (Exit::Work, Some("--resume needs the input, the model and the seed of the earlier run")),
    }
}

fn of_perplexity(error: &trine_lab::perplexity::Error) -> Diagnosis {
    use trine_lab::perplexity::Error;
    match error {
        Error::Cancelled => (Exit::Interrupted, Some(NO_RESULTS)),
        Error::Model(error) => of_model(error),
        Error::Engine(error) => of_engine(error),
        Error::Window { .. } => (Exit::Usage, Some(SHOW_CONTEXT)),
        _ => (Exit::Work, None),
    }
}

fn of_quantize(error: &trine_lab::quantize::Error) -> Diagnosis {
    use trine_lab::quantize::Error;
    match error {
        Error::Cancelled => (Exit::Interrupted, Some(NOTHING_WRITTEN)),
        Error::File(error) => of_file(error),
        Error::Model(error) => of_model(error),
        Error::Occupied { .. } => (Exit::Usage, Some("choose another name, or remove it")),
        Error::Extension { .. } => (Exit::Usage, Some("quantize writes GGUF files")),
        Error::NotStorable { .. } => (Exit::Usage, Some("for example --format q4_k")),
        Error::NotFinite { .. } => (Exit::Model, Some("get or convert the file again")),
        Error::Unimportant { .. } => (Exit::Work, Some(ANOTHER_IMATRIX)),
        Error::NotTernary { .. } => (Exit::Work, Some("choose q4_k or another format for any weights")),
        Error::NoMatch { .. } => (Exit::Usage, Some("trine convert --dry-run lists tensors")),
        Error::Divergence(trine_lab::divergence::Error::TooShort { .. }) => (Exit::Work, Some("pass a longer --text")),
        Error::Divergence(error) => of_divergence(error),
        Error::Imatrix(error) => of_imatrix(error),
        _ => (Exit::Work, None),
    }
}

fn of_divergence(error: &trine_lab::divergence::Error) -> Diagnosis {
    use trine_lab::divergence::{Error, LEAST_CONTEXT};
    match error {
        Error::Cancelled => (Exit::Interrupted, Some(NO_RESULTS)),
        Error::File(error) => of_file(error),
        Error::Model(error) => of_model(error),
        Error::Context { .. } => (Exit::Usage, Some(SHOW_CONTEXT)),
        Error::TooShort { context: LEAST_CONTEXT, .. } => (Exit::Work, Some("pass a longer text")),
        Error::TooShort { .. } => (Exit::Work, Some(LONGER)),
        _ => (Exit::Work, None),
    }
}

const ANOTHER_IMATRIX: &str = "`trine imatrix` measures one";

fn of_imatrix(error: &trine_lab::imatrix::Error) -> Diagnosis {
    use trine_lab::imatrix::Error;
    match error {
        Error::Cancelled => (Exit::Interrupted, Some(NOTHING_WRITTEN)),
        // It is no file of a model.
        Error::File(error) => (Exit::Work, of_file(error).1),
        Error::Model(error) => of_model(error),
        Error::Context { .. } => (Exit::Usage, Some(SHOW_CONTEXT)),
        Error::TooShort { .. } => (Exit::Work, Some(LONGER)),
        Error::Zero => (Exit::Work, Some(ANOTHER_IMATRIX)),
        _ => (Exit::Work, None),
    }
}

fn of_tasks(error: &trine_lab::tasks::Error) -> Diagnosis {
    use trine_lab::tasks::Error;
    match error {
        Error::Cancelled => (Exit::Interrupted, Some(NO_RESULTS)),
        Error::File(error) => of_file(error),
        Error::Model(error) => of_model(error),
        _ => (Exit::Work, None),
    }
}

fn of_receipt(error: &trine_lab::receipt::Error) -> Diagnosis {
    use trine_lab::receipt::Error;
    match error {
        Error::File(error) => of_file(error),
        Error::Key { .. } => (Exit::Usage, Some("`ssh-keygen -t ed25519` makes a pair of keys")),
        _ => (Exit::Work, None),
    }
}

fn of_synthetic(error: &trine_lab::synthetic::Error) -> Diagnosis {
    use trine_lab::synthetic::Error;
    match error {
        Error::Cancelled => (Exit::Interrupted, Some(NOTHING_WRITTEN)),
        Error::File(error) => of_file(error),
        _ => (Exit::Work, None),
    }
}

fn of_hub(error: &trine_hub::Error) -> Diagnosis {
    use trine_hub::Error;
    let hint = match error {
        Error::Name { .. } => return (Exit::Usage, None),
        Error::Cancelled => return (Exit::Interrupted, Some(": the same command continues the download")),
        Error::Denied { has_token: false, .. } => {
            "set HF_TOKEN to a token of the hub, or write it to the file `token` in HF_HOME, by default ~/.cache/huggingface"
        }
        Error::Denied { has_token: true, .. } => {
            "the token has no access: accept the terms on the page of the model, or set HF_TOKEN to another one"
        }
        Error::NotFound { .. } => {
            "check the name; a model that is not public needs a token in HF_TOKEN; `trine list` lists models that are here"
        }
        Error::NoModel { .. } => "OWNER/REPO:FILE names a file, OWNER/REPO:Q8_0 a format",
        Error::Hash { .. } => "the file was removed: the same command downloads it again",
        Error::Space { .. } => "free some space, or set HF_HUB_CACHE to a folder on another disk",
        Error::Unreachable { .. } => "check the network; HF_ENDPOINT names another hub, HTTPS_PROXY a proxy",
        Error::Connection { .. } | Error::Status { .. } => {
            "the same command tries again, and continues what was downloaded"
        }
        Error::Io { source, .. } => return (Exit::Work, full(source)),
        Error::Answer { .. } => "HF_ENDPOINT names a hub that speaks the protocol of Hugging Face",
    };
    (Exit::Work, Some(hint))
}

fn of_train(error: &trine_train::Error) -> Diagnosis {
    use trine_train::Error;
    match error {
        Error::Model(error) => of_model(error),
        Error::File(error) => of_file(error),
        Error::Device(error) => of_device(error),
        Error::Cancelled => (Exit::Interrupted, Some(NOTHING_WRITTEN)),
        Error::Checkpoint { earlier: Some(_), .. } => {
            (Exit::Work, Some("delete the file, and --resume continues from the checkpoint before it"))
        }
        Error::Checkpoint { .. } => (Exit::Work, Some("it was the only one: --fresh starts over")),
        Error::NoCheckpoint { .. } => (Exit::Work, Some("omit --resume to start the run")),
        Error::Io { source, .. } => (Exit::Work, full(source)),
        Error::Busy { .. } => (Exit::Work, Some("wait for it, or choose another output.folder")),
        _ => (Exit::Work, None),
    }
}

fn of_bench(error: &trine_lab::bench::Error) -> Diagnosis {
    use trine_lab::bench::Error;
    match error {
        Error::Cancelled => (Exit::Interrupted, Some(NO_RESULTS)),
        Error::Context { .. } => (Exit::Usage, Some("lower --prefill, --decode or --depth")),
        Error::Another { .. } | Error::OtherTests { .. } => {
            (Exit::Usage, Some("--save-baseline writes one for these tests"))
        }
        Error::NotBudgets { .. } => (Exit::Usage, Some("`trine bench --help` lists the keys")),
        Error::Model(trine_model::Error::Device(_)) => {
            (Exit::Work, Some("lower --prefill, --decode, --depth or --batch"))
        }
        Error::Model(error) => of_model(error),
        Error::Engine(error) => of_engine(error),
        _ => (Exit::Work, None),
    }
}

fn of_engine(error: &trine_engine::Error) -> Diagnosis {
    use trine_engine::Error;
    match error {
        Error::Option { .. } | Error::UnknownPreset { .. } | Error::Zero { .. } => (Exit::Usage, None),
        Error::DiskCache { .. } => (Exit::Usage, Some("choose another folder or limit")),
        Error::Context { .. } => (Exit::Usage, Some(SHOW_CONTEXT)),
        Error::PromptTooLong { .. } => {
            (Exit::Work, Some("shorten the prompt, or raise --context if the model allows it"))
        }
        Error::Encoder { .. } => (Exit::Work, Some("`trine embed` runs it")),
        Error::BeyondVocabulary { .. } => (Exit::Usage, Some("`trine tokenize` shows the ids of tokens")),
        Error::NoCandidates { .. } => (
            Exit::Work,
            Some(
                "the options and the form of the answer forbid all tokens: omit --min-tokens, --bad-words or the like",
            ),
        ),
        Error::CacheTooLarge { .. } => (Exit::Work, Some("lower --context")),
        Error::Model(trine_model::Error::Device(error)) => match of_device(error) {
            (Exit::Work, None) => (Exit::Work, Some("lower --context")),
            other => other,
        },
        Error::Model(error) => of_model(error),
        Error::Forward(error) => of_model(error),
        _ => (Exit::Work, None),
    }
}

fn of_device(error: &trine_backend::Error) -> Diagnosis {
    use trine_backend::Error;
    match error {
        Error::Affinity { .. } => (Exit::Usage, Some("`trine devices` shows the CPUs")),
        Error::Lock { .. } => (
            Exit::Work,
            Some(
                "raise the limit with `ulimit -l unlimited` or, for a service, LimitMEMLOCK=infinity; or omit --mlock",
            ),
        ),
        Error::Unfit { .. } => (Exit::Model, None),
        Error::Damaged(_) => (Exit::Model, Some("`trine doctor` checks the file")),
        Error::NoMemory { .. } => (Exit::Work, Some("--huge-pages off leaves the weights in the mapped file")),
        _ => (Exit::Work, None),
    }
}

fn of_model(error: &trine_model::Error) -> Diagnosis {
    use trine_model::Error;
    let hint = match error {
        Error::In { source, .. } | Error::Defaults { source, .. } => return of_model(source),
        Error::Cancelled => return (Exit::Interrupted, Some(" while loading the model")),
        Error::Stopped => return (Exit::Interrupted, Some(NO_RESULTS)),
        Error::Device(error) => return of_device(error),
        Error::Length { .. } => return (Exit::Work, Some("split the text")),
        Error::File(error) => return of_file(error),
        Error::NotWeights { .. } => Some("get the model in BF16, or quantized by a method that its config.json names"),
        Error::UnknownDevice { .. } => return (Exit::Usage, Some("`trine devices` lists the devices of this machine")),
        Error::NoConfig { .. } => Some("get the config.json of the model as well"),
        Error::NoWeights => Some("pass the model itself; --tokenizer FILE takes a file with only a tokenizer"),
        Error::NoTokenizer { .. } => Some("pass one with --tokenizer FILE"),
        Error::UnknownArch { .. } => Some("`trine info` shows the contents of the file"),
        Error::Vocabulary { .. } => Some("pass the tokenizer of this model with --tokenizer FILE"),
        Error::NotFinite { .. } => Some("get or convert the file again; `trine doctor` finds the tensor"),
        Error::Text(_) => Some("pass another tokenizer with --tokenizer FILE"),
        _ => None,
    };
    (Exit::Model, hint)
}

/// A hint about a file that cannot be written.
fn full(error: &std::io::Error) -> Option<&'static str> {
    let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge].contains(&error.kind());
    full.then_some("free some space, or write to another disk")
}

fn of_file(error: &trine_tensor::Error) -> Diagnosis {
    use trine_tensor::Error;
    let hint = match error.cause() {
        Error::Write(error) => return (Exit::Work, full(error)),
        Error::Lossy { .. } => {
            return (Exit::Work, Some("choose bf16 or f32, or get the model again: such weights are rare"));
        }
        Error::Io(error) if error.kind() == ErrorKind::NotFound => Some("check the path"),
        Error::NotFound => Some("check the path"),
        Error::NotAModel { .. } => Some("a model is a GGUF file, a safetensors file, or a folder with one of them"),
        Error::Adapter => Some("pass the folder of a whole model"),
        Error::Folder { .. } => Some("pass the file or the folder of the model itself"),
        Error::MissingShard { .. } => {
            Some("all shards of a model belong in one folder; if writing them was interrupted, repeat it")
        }
        Error::Truncated { .. } => Some("the file is cut short, or its header is damaged: get it again"),
        _ => None,
    };
    (Exit::Model, hint)
}
