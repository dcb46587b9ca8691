//! llama.cpp's server, or that of a relative: it says which ids a text has, and how likely it takes which tokens.

use super::Error;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// Tokens of which the reference tells how likely they are. More than a hundred are never likely.
const BEST: usize = 100;
/// Until a server answers.
const PATIENCE: Duration = Duration::from_secs(600);
/// Most bytes of an answer.
const LONGEST: u64 = 256 << 20;

/// The Python of `xllamacpp` where none is named.
pub const PYTHON: &str = "python3";

/// Where the reference is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A server that runs already, such as `http://127.0.0.1:8080`.
    Url(String),
    /// A Python that has PyPI's `xllamacpp`.
    Python(PathBuf),
    /// llama.cpp's `llama-server`.
    Server(PathBuf),
}

impl Source {
    /// What people mean by it: an address, `xllamacpp`, a Python that has that, a server, or the folder of llama.cpp. A program of llama.cpp
    /// whose name begins with `llama-` stands for the `llama-server` beside it, which alone tells ids and probabilities.
    pub fn of(name: &str) -> Source {
        if name.starts_with("http://") {
            return Source::Url(name.trim_end_matches('/').to_owned());
        }
        let path = Path::new(name);
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "xllamacpp" {
            return Source::Python(PYTHON.into());
        }
        if file.starts_with("python") {
            return Source::Python(path.to_owned());
        }
        let server = format!("llama-server{}", std::env::consts::EXE_SUFFIX);
        if !path.is_dir() {
            return Source::Server(if file.starts_with("llama-") {
                path.with_file_name(server)
            } else {
                path.to_owned()
            });
        }
        let places = [path.join(&server), path.join("bin").join(&server), path.join("build/bin").join(&server)];
        let [first, ..] = &places;
        Source::Server(places.iter().find(|place| place.is_file()).unwrap_or(first).clone())
    }
}

/// A reference that is ready.
pub struct Reference {
    agent: ureq::Agent,
    address: String,
    /// What it is, for messages.
    name: String,
    /// The program, if we started it.
    process: Option<Child>,
    /// What explains its end.
    log: Option<JoinHandle<String>>,
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Some(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A token that the reference takes.
pub(super) struct ReferenceStep {
    pub id: u32,
    /// The likeliest tokens at its place, each with its `ln p`; none where the reference does not tell.
    pub likely: Vec<(u32, f64)>,
}

impl Reference {
    /// Starts the program with a model, unless it runs already, and waits until the model is loaded.
    ///
    /// # Errors
    /// When it is not there, or cannot load the model.
    pub fn start(source: &Source, model: &Path, context: usize, threads: usize) -> Result<Reference, Error> {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let mut reference = Reference {
            agent: config.build().into(),
            address: String::new(),
            name: String::new(),
            process: None,
            log: None,
        };
        let (context, threads) = (context.to_string(), threads.to_string());
        match source {
            Source::Url(url) => {
                (reference.name, reference.address) = (url.clone(), url.clone());
            }
            Source::Python(python) => {
                reference.name = format!("xllamacpp of {}", python.display());
                let mut command = Command::new(python);
                command.args(["-c", include_str!("xllamacpp.py")]).arg(model).args([&context, &threads]);
                reference.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
                let mut address = String::new();
                let output = reference.process.as_mut().and_then(|child| child.stdout.take());
                BufReader::new(output.expect("it is a pipe")).read_line(&mut address).unwrap_or_default();
                if !address.starts_with("http") {
                    return Err(reference.ended());
                }
                reference.address = address.trim().to_owned();
            }
            Source::Server(program) => {
                reference.name = program.display().to_string();
                let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
                let port = free.map_err(|error| reference.problem(format!("no free port: {error}")))?.port();
                reference.address = format!("http://127.0.0.1:{port}");
                let mut command = Command::new(program);
                command.arg("-m").arg(model).args(["-c", &context, "-t", &threads, "--host", "127.0.0.1"]);
                reference
                    .spawn(command.args(["--port", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()))?;
            }
        }
        reference.wait()?;
        Ok(reference)
    }

    fn spawn(&mut self, command: &mut Command) -> Result<(), Error> {
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| self.problem(format!("it cannot be run: {error}")))?;
        let log = child.stderr.take().expect("it is a pipe");
        self.log = Some(std::thread::spawn(move || complaint(log)));
        self.process = Some(child);
        Ok(())
    }

    /// Until the model is loaded.
    fn wait(&mut self) -> Result<(), Error> {
        loop {
            if let Some(child) = &mut self.process
                && !matches!(child.try_wait(), Ok(None))
            {
                return Err(self.ended());
            }
            match self.agent.get(format!("{}/health", self.address)).call() {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Err(error) if self.process.is_none() => return Err(self.problem(error.to_string())),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// The program ended, and why.
    fn ended(&mut self) -> Error {
        let why = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        self.problem(if why.is_empty() { "it ended without a word".to_owned() } else { format!("it ended: {why}") })
    }

    pub(super) fn problem(&self, problem: impl Into<String>) -> Error {
        Error::Reference { reference: self.name.clone(), problem: problem.into() }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let sent = self.agent.post(format!("{}{path}", self.address)).send_json(body);
        let mut answer = sent.map_err(|error| self.problem(format!("{path}: {error}")))?;
        let read = answer.body_mut().with_config().limit(LONGEST).read_json::<Value>();
        let value = read.map_err(|error| self.problem(format!("{path}: {}: {error}", answer.status())))?;
        match value["error"]["message"].as_str() {
            Some(message) => Err(self.problem(format!("{path}: {message}"))),
            None => Ok(value),
        }
    }

    /// The ids of a text, with what stands before and after every text, and the names of control tokens as these.
    pub(super) fn tokenize(&self, text: &str) -> Result<Vec<u32>, Error> {
        let answer = self.post("/tokenize", &json!({ "content": text, "add_special": true, "parse_special": true }))?;
        let ids = answer["tokens"].as_array().and_then(|ids| ids.iter().map(id).collect());
        ids.ok_or_else(|| self.problem(format!("/tokenize: expected `tokens`, found {answer}")))
    }

    /// The tokens with which it goes on, the most likely one each time, until the text ends. Each is asked for alone: of several it does not
    /// say how likely those are that end within a letter.
    pub(super) fn go_on(&self, ids: &[u32], tokens: usize) -> Result<Vec<ReferenceStep>, Error> {
        let (mut ids, mut steps) = (ids.to_vec(), Vec::new());
        while steps.len() < tokens {
            let answer = self.post(
                "/completion",
                &json!({
                    "prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": BEST, "return_tokens": true, "cache_prompt": true,
                }),
            )?;
            let unexpected =
                || self.problem("/completion: expected `tokens` and `completion_probabilities` with `logprob`s");
            let taken = answer["tokens"].as_array().ok_or_else(unexpected)?;
            let Some(taken) = taken.first() else { break };
            let taken = id(taken).ok_or_else(unexpected)?;
            let likely =
                answer["completion_probabilities"][0]["top_logprobs"].as_array().map(Vec::as_slice).unwrap_or_default();
            let likely = likely.iter().map(|token| Some((id(&token["id"])?, token["logprob"].as_f64()?)));
            steps.push(ReferenceStep { id: taken, likely: likely.collect::<Option<_>>().ok_or_else(unexpected)? });
            if answer["stop_type"] == "eos" {
                break;
            }
            ids.push(taken);
        }
        Ok(steps)
    }
}

/// The first line of a log that tells of an error, or else its last one. A log must be read, or its full pipe would stop the program.
fn complaint(log: ChildStderr) -> String {
    let (mut last, mut error) = (String::new(), None);
    for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if error.is_none() && line.to_ascii_lowercase().contains("error") {
            error = Some(line);
        } else if !line.is_empty() {
            last = line;
        }
    }
    error.unwrap_or(last)
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}
