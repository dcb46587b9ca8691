//! Every error has the kind that says what a program can do about it.

use ErrorKind::{
    Busy, Cancelled, Device, Invalid, Io, Memory, Model, NotFinite, Panicked, PromptTooLong, Template, TimedOut,
};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trine::backend::Role;
use trine::{Error, ErrorKind, backend, engine, grammar, model, tensor, text};
use trine_backend::CacheType;

/// The variants of the first enum `Error` in a source file.
fn variants(source: &str) -> BTreeSet<String> {
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(source)).unwrap();
    let body = source.split("pub enum Error {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    "));
    names.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).map(first_word).collect()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric()).collect()
}

/// Checks the kinds of all variants of an enum, which `wrap` makes errors of this crate.
fn check<E: Debug>(source: &str, wrap: impl Fn(E) -> Error, cases: Vec<(ErrorKind, E)>) {
    let tested = cases.iter().map(|(_, error)| first_word(&format!("{error:?}"))).collect();
    assert_eq!(variants(source), tested, "{source}");
    for (expected, error) in cases {
        let error = wrap(error);
        assert_eq!(error.kind(), expected, "{error:?}");
    }
}

/// A text where any will do.
fn s() -> String {
    "x".to_owned()
}

fn io() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

fn malformed() -> tensor::Error {
    tensor::Error::Malformed { place: s(), expected: s(), found: s() }
}

#[test]
fn errors_of_this_crate() {
    let needed = trine::Memory::default();
    check(
        "trine/src/error.rs",
        |error| error,
        vec![
            (Model, Error::Model(model::Error::NotTernary { tensor: s() })),
            (Invalid, Error::Engine(engine::Error::EmptyPrompt)),
            (Invalid, Error::Grammar(grammar::Error::Vocabulary(s()))),
            (Template, Error::Text(text::Error::Template(s()))),
            (Memory, Error::MemoryLimit { limit: 1, needed }),
            (Memory, Error::ControlGroup { limit: 1, needed }),
            (Template, Error::NoTemplate),
            (Invalid, Error::UnknownPrompt { found: s(), known: vec![] }),
            (Invalid, Error::UnknownTemplate { found: s(), known: vec![] }),
            (Invalid, Error::AlreadyFailed),
        ],
    );
}

#[test]
fn errors_of_models() {
    use model::Error as E;
    let (path, tensor, arch) = (PathBuf::new(), s(), "x");
    check(
        "model/src/error.rs",
        Error::from,
        vec![
            (Cancelled, E::In { path: path.clone(), source: Box::new(E::Cancelled) }),
            (Io, E::File(tensor::Error::NotFound)),
            (Model, E::Text(text::Error::Vocabulary { place: s(), problem: s() })),
            (Device, E::Device(backend::Error::NoAffinity)),
            (Model, E::UnknownArch { found: s(), known: s() }),
            (Model, E::NoWeights),
            (Model, E::Defaults { keys: s(), source: Box::new(E::NoWeights) }),
            (Model, E::MissingKey { key: s(), expected: "x" }),
            (Model, E::BadKey { key: s(), expected: s(), found: s() }),
            (Model, E::Shape { tensor: s(), expected: vec![], found: vec![] }),
            (Model, E::NotTernary { tensor: s() }),
            (Model, E::Dtype { tensor: s(), expected: "x", found: "y" }),
            (Model, E::NotWeights { tensor: s(), found: "x" }),
            (Model, E::BadWeight { tensor: s(), expected: "x", found: 0.0 }),
            (Model, E::Unused { tensor, arch, layers: 1 }),
            (Model, E::Vocabulary { tokens: 2, rows: 1 }),
            (Model, E::NoTokenizer { expected: "x" }),
            (PromptTooLong, E::Length { tokens: 3, most: 2 }),
            (Invalid, E::Length { tokens: 0, most: 2 }),
            (Model, E::NoConfig { path }),
            (Cancelled, E::Cancelled),
            (Cancelled, E::Stopped),
            (NotFinite, E::NotFinite { found: f32::NAN, token: 0, arch }),
            (Invalid, E::NoLogits { arch }),
            (Invalid, E::BadEdit { expected: s(), found: s() }),
            (Invalid, E::UnknownAdapter { adapter: 1 }),
            (Invalid, E::UnknownDevice { found: s(), expected: s() }),
        ],
    );
}

#[test]
fn errors_of_files() {
    use tensor::Error as E;
    let json = serde_json::from_str::<u32>("x").unwrap_err();
    check(
        "tensor/src/error.rs",
        |error| Error::Model(error.into()),
        vec![
            (Io, E::In { path: PathBuf::new(), source: Box::new(E::NotFound) }),
            (Io, E::Io(io())),
            (Io, E::Write(io())),
            (Model, E::Lossy { tensor: s(), format: "x", weight: 1.0, encoded: 2.0 }),
            (Io, E::NotFound),
            (Model, E::NotAModel { found: s() }),
            (Model, E::Folder { found: s() }),
            (Model, E::Adapter),
            (Model, E::Truncated { place: s(), expected: 2, found: 1 }),
            (Model, malformed()),
            (Model, E::Unsupported { place: s(), expected: s(), found: s() }),
            (Model, E::Json { place: "x", source: json }),
            (Model, E::UnknownFormat { tensor: s(), found: s(), hint: s() }),
            (Model, E::AmbiguousFormat { tensor: s(), id: 1, names: s() }),
            (Model, E::MissingShard { no: 0, count: 2 }),
            (Model, E::NoTensor { tensor: s(), hint: s() }),
        ],
    );
}

#[test]
fn errors_of_texts() {
    use text::Error as E;
    check(
        "text/src/error.rs",
        Error::from,
        vec![
            (Model, E::Vocabulary { place: s(), problem: s() }),
            (Model, E::UnknownName { key: "x", known: s(), found: s() }),
            (Invalid, E::Training(s())),
            (Template, E::Template(s())),
        ],
    );
}

#[test]
fn errors_of_devices() {
    use backend::Error as E;
    check(
        "backend/src/lib.rs",
        |error| Error::Model(error.into()),
        vec![
            (Device, E::Threads(io())),
            (Invalid, E::Affinity { cpu: 9, allowed: vec![0] }),
            (Device, E::NoAffinity),
            (Device, E::Numa(io())),
            (Memory, E::Lock { bytes: 1, limit: None, source: io() }),
            (Memory, E::NoMemory { bytes: 1 }),
            (Io, E::Read { tensor: s(), source: Box::new(tensor::Error::Io(io())) }),
            (Model, E::Read { tensor: s(), source: Box::new(malformed()) }),
            (Model, E::Damaged(Box::new(malformed()))),
            (Model, E::TooWide { tensor: s(), found: 2, most: 1 }),
            (Model, E::Unfit { tensor: s(), format: "x", role: Role::Linear, reason: "x" }),
            (Invalid, E::CacheType { found: CacheType::F32 }),
            (Memory, E::NoRoom { bytes: 1 }),
            (Device, E::Other("x".into())),
        ],
    );
}

#[test]
fn errors_of_engines() {
    use engine::Error as E;
    check(
        "engine/src/error.rs",
        Error::from,
        vec![
            (Invalid, E::Encoder { arch: "x" }),
            (Invalid, E::Option { field: "x", value: s(), expected: s() }),
            (Invalid, E::UnknownPreset { found: s(), known: s() }),
            (Invalid, E::EmptyPrompt),
            (PromptTooLong, E::PromptTooLong { prompt: 2, most: 0, context: 1 }),
            (Busy, E::QueueFull { queued: 1, asked: 1, most: 1 }),
            (Busy, E::QueueTokensFull { queued: 1, prompt: 1, most: 1 }),
            (TimedOut, E::QueueTimeout { waited: Duration::MAX, timeout: Duration::ZERO }),
            (TimedOut, E::Timeout { took: Duration::MAX, timeout: Duration::ZERO }),
            (Invalid, E::BeyondVocabulary { place: s(), id: 2, vocab: 1 }),
            (Invalid, E::Context { asked: 2, most: 1 }),
            (Invalid, E::Zero { field: "x" }),
            (Memory, E::CacheTooSmall { bytes: 1, needed: 2 }),
            (Memory, E::CacheTooLarge { blocks: 1 }),
            (Invalid, E::DiskCache { folder: "x".into(), problem: s() }),
            (NotFinite, E::NotFinite { id: 0, position: 0, value: f32::NAN }),
            (Invalid, E::NoCandidates { position: 0 }),
            (Invalid, E::FilterLogit { filter: s(), id: 0, position: 0, logit: f64::NAN }),
            (Invalid, E::Filter(s())),
            (Cancelled, E::Forward(Arc::new(model::Error::Cancelled))),
            (Invalid, E::Model(model::Error::NoLogits { arch: "x" })),
            (Cancelled, E::ShutDown),
            (Invalid, E::OwnThread),
            (Panicked, E::Panicked),
        ],
    );
}
