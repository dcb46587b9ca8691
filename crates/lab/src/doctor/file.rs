//! The file itself: whether it opens, says what it is, and holds what it says.

use super::{Check, Context, Finding, Severity};
use std::collections::BTreeMap;
use trine_tensor::receipt::check_layout;
use trine_tensor::{Error, FORMATS, FileFormat, Receipt};

pub(super) const FILE: Check = Check { name: "file", about: "header, architecture, number formats", run };

const AGAIN: &str = "get the file again, and compare its size and checksum with the publisher's";

/// The finding of a file that does not open.
pub(super) fn unopened(error: &Error) -> Finding {
    let remedy = match error.cause() {
        Error::Io(_) | Error::NotFound => "check the path, and whether you may read it",
        Error::NotAModel { .. } => "name a GGUF file, a safetensors file, or a folder with one of them",
        Error::Folder { .. } => "name the file itself",
        Error::Truncated { .. } => AGAIN,
        Error::AmbiguousFormat { .. } => {
            "say which format it is with --layout NAME: the message names those that it could be"
        }
        Error::UnknownFormat { .. } => "take a file of the model in a format that the message names",
        _ => "get or convert the file again: its header is damaged, or not as the specification says",
    };
    Finding::new(Severity::Error, "the file does not open", error.to_string(), remedy)
}

fn run(context: &mut Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = &context.spec {
        use trine_model::Error;
        let title = match error {
            Error::NoWeights => "there are no weights",
            _ => "the model's numbers make no sense",
        };
        let remedy = match error {
            Error::NoWeights => "examine the model itself, with this file as its --tokenizer if it is one",
            Error::UnknownArch { .. } => "take a model of an architecture that the message names",
            Error::MissingKey { .. } => "convert the model again: the converter left the key out",
            Error::File(_) => AGAIN,
            _ => "convert the model again, or correct the key",
        };
        findings.push(Finding::new(Severity::Error, title, error.to_string(), remedy));
    }
    findings.extend(file_type(context));
    findings.extend(receipt(context));
    let numbers = context.file.notes().iter().map(|note| {
        let remedy = "nothing, if the model makes sense; if not, choose another with --layout NAME";
        Finding::new(Severity::Note, "a type number has several meanings", note, remedy)
    });
    let model = context.spec.iter().flat_map(|spec| &spec.notes).map(|note| {
        let remedy = "nothing: the model works without it";
        Finding::new(Severity::Note, "a part of the model is left out", note, remedy)
    });
    findings.into_iter().chain(numbers).chain(model).collect()
}

/// The receipt against all but the tensors.
fn receipt(context: &Context) -> Vec<Finding> {
    const REMEDY: &str = "get the file again from who wrote it; `trine verify` checks the tensors, too";
    let file = context.file;
    let flaws = match Receipt::of(file.metadata()) {
        Ok(None) => return Vec::new(),
        Ok(Some(_)) => check_layout(file),
        Err(error) => Err(error),
    };
    let finding =
        |evidence: String| Finding::new(Severity::Warning, "the file is not as its receipt says", evidence, REMEDY);
    match flaws {
        Ok(flaws) => flaws.into_iter().map(|flaw| finding(format!("{} {}", flaw.place, flaw.problem))).collect(),
        Err(error) => vec![finding(error.to_string())],
    }
}

/// `general.file_type` against the format of most weights.
fn file_type(context: &Context) -> Option<Finding> {
    let FileFormat::Gguf { .. } = context.file.format() else { return None };
    let declared = context.file.metadata().u32("general.file_type").ok()??;
    let declared = FORMATS.iter().find(|format| format.file_type() == Some(declared))?;
    let mut weights = BTreeMap::new();
    for view in context.file.tensors().filter(|view| view.shape.len() > 1) {
        *weights.entry(view.format.name).or_insert(0) += view.rows() * view.cols();
    }
    let (most, _) = weights.iter().max_by_key(|(_, weights)| **weights)?;
    // Layouts of one format share a number.
    let any =
        FORMATS.iter().any(|format| format.file_type() == declared.file_type() && weights.contains_key(format.name));
    (!any).then(|| {
        let evidence = format!("general.file_type is {declared}, most weights are {most}, none is {declared}");
        Finding::new(
            Severity::Note,
            "the file's type is not that of its tensors",
            evidence,
            "nothing: Trine goes by the tensors",
        )
    })
}
