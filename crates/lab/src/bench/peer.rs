//! Other programs that run the same tests on the same file.

use super::{Error, Kind, Run, Subject, Test};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use trine_backend::CacheType;
use trine_tensor::File;

/// Which program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// llama.cpp as PyPI's `xllamacpp` has it, by this Python.
    Xllamacpp { python: PathBuf },
    /// llama.cpp's `llama-bench`, or that of a relative.
    LlamaBench { program: PathBuf },
}

/// A program that is ready.
pub struct Peer {
    kind: PeerKind,
    file: PathBuf,
    options: PeerOptions,
    /// The Python that holds the model.
    process: Option<Process>,
    /// What it says its version is.
    pub version: Option<String>,
    /// How long it took to load the model.
    pub load_seconds: Option<f64>,
    /// From opening the file to the first token after a prompt of one.
    pub first_token_seconds: Option<f64>,
}

/// What a program is told of how Trine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerOptions {
    /// Threads for one token at a time.
    pub threads: usize,
    /// Threads for batches of more.
    pub threads_batch: usize,
    /// What keys and values are kept as.
    pub cache_type: CacheType,
}

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The script ends with its input.
        self.input = None;
        let _ = self.child.wait();
    }
}

impl PeerKind {
    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            PeerKind::Xllamacpp { .. } => "xllamacpp",
            PeerKind::LlamaBench { .. } => "llama-bench",
        }
    }
}

impl Peer {
    /// Makes a program ready for these tests on a file.
    ///
    /// # Errors
    /// When it is not there or cannot open the file.
    pub fn start(kind: PeerKind, file: &Path, options: PeerOptions, tests: &[Test]) -> Result<Peer, Error> {
        let (version, load_seconds, first_token_seconds) = (None, None, None);
        let file = file.to_owned();
        let mut peer = Peer { kind, file, options, process: None, version, load_seconds, first_token_seconds };
        let (file, PeerOptions { threads, threads_batch, cache_type }) = (&peer.file.clone(), options);
        match &peer.kind {
            PeerKind::Xllamacpp { python } => {
                let most = |count: fn(&Test) -> usize| tests.iter().map(count).max().unwrap_or(0).to_string();
                let mut command = Command::new(python);
                command.args(["-c", include_str!("xllamacpp.py")]).arg(file);
                command.args([threads.to_string(), threads_batch.to_string()]);
                command.args(cache_type.formats().map(|format| format.id.unwrap_or_default().to_string()));
                command.arg(most(|test| test.sequences));
                command.args([most(|test| test.tokens + test.depth), most(|test| test.depth)]);
                let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
                let mut child = spawned.map_err(|error| {
                    peer.problem(format!("cannot run {}: {error}; --python names another Python", python.display()))
                })?;
                let input = child.stdin.take();
                let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
                peer.process = Some(Process { child, input, output });
                let ready = peer.answer().map_err(|error| explained(error, file))?;
                peer.version = ready["version"].as_str().map(str::to_owned);
                peer.load_seconds = ready["load_seconds"].as_f64();
                peer.first_token_seconds = ready["first_token_seconds"].as_f64();
            }
            PeerKind::LlamaBench { program } => {
                let ran = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
                ran.map_err(|error| {
                    let program = program.display();
                    peer.problem(format!("cannot run {program}: {error}; it is built with llama.cpp"))
                })?;
            }
        }
        Ok(peer)
    }

    /// What people call it.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn problem(&self, problem: impl Into<String>) -> Error {
        Error::Peer { peer: self.name().into(), problem: problem.into() }
    }

    /// The next line of the script.
    fn answer(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        let process = self.process.as_mut().expect("it was started");
        let read = process.output.read_line(&mut line);
        match (read, serde_json::from_str::<Value>(&line)) {
            (Ok(1..), Ok(answer)) => match answer["error"].as_str() {
                Some(error) => Err(self.problem(error)),
                None => Ok(answer),
            },
            _ => Err(self.problem("the program ended without an answer")),
        }
    }

    fn llama_bench(&self, program: &Path, test: Test) -> Result<f64, Error> {
        let (prefill, decode) = match test.kind {
            Kind::Prefill => (test.tokens, 0),
            Kind::Decode => (0, test.tokens),
        };
        let mut command = Command::new(program);
        command.arg("-m").arg(&self.file).args(["-r", "1", "-o", "json"]);
        command.args(arguments(self.options, test));
        command.args(["-p", &prefill.to_string(), "-n", &decode.to_string()]);
        if test.depth > 0 {
            command.args(["-d", &test.depth.to_string()]);
        }
        let output = command.stdin(Stdio::null()).output().map_err(|error| self.problem(error.to_string()))?;
        let found: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        let nanoseconds = found.and_then(|found| found.as_array()?.last()?["avg_ns"].as_f64());
        nanoseconds.filter(|&n| n > 0.0).map(|n| n / 1e9).ok_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it printed no result");
            self.problem(format!("{test}: {last}"))
        })
    }
}

/// Threads and KV cache of a test, as llama-bench takes them.
fn arguments(options: PeerOptions, test: Test) -> Vec<String> {
    let PeerOptions { threads, threads_batch, cache_type } = options;
    let threads = if test.is_batch() { threads_batch } else { threads };
    let [keys, values] = cache_type.formats().map(|format| format.name.to_lowercase());
    let mut arguments = ["-t", &threads.to_string(), "-ctk", &keys, "-ctv", &values].map(str::to_owned).to_vec();
    if cache_type.values.block > 1 {
        // It quantizes values in flash attention alone.
        arguments.extend(["-fa".to_owned(), "1".to_owned()]);
    }
    arguments
}

/// With what llama.cpp does not say: what stands in the file that it does not know, and what it knows instead.
fn explained(error: Error, file: &Path) -> Error {
    let Ok(file) = File::open(file) else { return error };
    let Error::Peer { peer, mut problem } = error else { return error };
    if matches!(file.metadata().str("general.architecture"), Ok(Some("bitnet-b1.58"))) {
        problem.push_str(
            "; llama.cpp has no bitnet-b1.58 but bitnet, and --shape 2b4t-silu is a model of the same sizes in it",
        );
    }
    if file.tensors().any(|view| view.format.name == "I2_S") {
        problem.push_str("; llama.cpp has no I2_S, and TQ2_0 and TQ1_0 hold the same weights");
    }
    Error::Peer { peer, problem }
}

impl Subject for Peer {
    fn run(&mut self, test: Test) -> Result<Run, Error> {
        let of = |seconds| Run { seconds, ..Run::default() };
        if let PeerKind::LlamaBench { program } = &self.kind {
            return self.llama_bench(program, test).map(of);
        }
        let kind = if test.kind == Kind::Prefill { "prefill" } else { "decode" };
        let input = self.process.as_mut().and_then(|process| process.input.as_mut()).expect("it was started");
        let asked =
            writeln!(input, "{kind} {} {} {}", test.tokens, test.sequences, test.depth).and_then(|()| input.flush());
        asked.map_err(|error| self.problem(error.to_string()))?;
        let seconds = self.answer()?["seconds"].as_f64().filter(|&seconds| seconds > 0.0);
        seconds.map(of).ok_or_else(|| self.problem(format!("{test}: it gave no time")))
    }

    fn can(&self, test: Test) -> bool {
        test.sequences == 1 || !matches!(self.kind, PeerKind::LlamaBench { .. })
    }

    fn is_here(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_bench_is_told_the_threads_of_the_test_and_the_kv_type() {
        let test = |kind, tokens, sequences| Test { kind, tokens, sequences, depth: 0 };
        for (cache_type, test, expected) in [
            ("f32", test(Kind::Prefill, 512, 1), "-t 8 -ctk f32 -ctv f32"),
            ("f16", test(Kind::Decode, 64, 1), "-t 4 -ctk f16 -ctv f16"),
            ("q8_0", test(Kind::Decode, 64, 1), "-t 4 -ctk q8_0 -ctv q8_0 -fa 1"),
            ("q8_0/f16", test(Kind::Decode, 64, 1), "-t 4 -ctk q8_0 -ctv f16"),
        ] {
            let options = PeerOptions { threads: 4, threads_batch: 8, cache_type: cache_type.parse().unwrap() };
            assert_eq!(arguments(options, test).join(" "), expected);
        }
    }
}
