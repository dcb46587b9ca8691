//! Why a model talks nonsense or fails: checks of a file, each finding with its evidence and what to do.

mod devices;
mod file;
mod hypotheses;
mod layout;
mod rope;
mod rotation;
mod smoke_test;
mod template;
mod tensors;
mod tokenizer;
mod weights;

pub use devices::{DeviceComparison, Outcome};
pub use smoke_test::SmokeTest;

use crate::receipt::ReceiptSummary;
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tensors::TensorStats;
use trine_backend::CpuOptions;
use trine_model::{DeviceName, DeviceOptions, Language, QuantMethod, Spec, open_file};
use trine_tensor::{File, Format, OpenOptions};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know; a model may be well and have it.
    Note,
    /// Answers may be worse than they should be.
    Warning,
    /// The model does not run, or cannot make sense.
    Error,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What it is, in a few words.
    pub title: String,
    /// What was found, where, and what it should be.
    pub evidence: String,
    pub remedy: String,
}

impl Finding {
    fn new(
        severity: Severity,
        title: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { severity, title: title.into(), evidence: evidence.into(), remedy: remedy.into() }
    }
}

/// A family of checks.
pub struct Check {
    pub name: &'static str,
    pub about: &'static str,
    run: fn(&mut Context) -> Vec<Finding>,
}

/// All checks, in the order in which they run: what explains others comes first. A new one is a file and a row.
pub static CHECKS: &[Check] = &[
    file::FILE,
    rotation::ROTATION,
    tokenizer::TOKENIZER,
    template::TEMPLATE,
    rope::ROPE,
    weights::WEIGHTS,
    smoke_test::SMOKE_TEST,
    devices::DEVICES,
    layout::LAYOUT,
    hypotheses::HYPOTHESES,
];

/// What checks look at.
struct Context<'a> {
    file: &'a File,
    /// What kind of model it is, and why that is not known.
    spec: Result<Spec, trine_model::Error>,
    language: Result<Language, trine_model::Error>,
    /// What was counted of each tensor; empty in a quick examination.
    tensors: Vec<TensorStats>,
    /// Where the smoke test runs, and how; absent in a quick examination.
    device: Option<DeviceOptions>,
    compare_devices: Option<[DeviceName; 2]>,
    smoke_test: Option<SmokeTest>,
    compared: Option<DeviceComparison>,
    patience: Patience<'a>,
    /// The worst that was found so far.
    worst: Option<Severity>,
}

/// Whether the caller still waits, asked between two pieces of work.
struct Patience<'a> {
    progress: &'a mut dyn FnMut() -> ControlFlow<()>,
    is_over: bool,
}

impl Patience<'_> {
    /// Breaks off ever after it did once.
    fn ask(&mut self) -> ControlFlow<()> {
        self.is_over = self.is_over || (self.progress)().is_break();
        if self.is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DoctorReport {
    /// Whether the file opens, so that its content was looked at.
    pub opens: bool,
    /// Where the file is from, as it says.
    pub receipt: Option<ReceiptSummary>,
    pub findings: Vec<Finding>,
    /// How well the model predicts plain English; unknown when it was not run.
    pub smoke_test: Option<SmokeTest>,
    /// Whether two devices compute the same; unknown when that was not asked.
    pub compared_devices: Option<DeviceComparison>,
}

impl DoctorReport {
    /// Whether nothing worse than a note was found.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }
}

/// How to examine a file.
#[derive(Clone, Default)]
pub struct DoctorOptions {
    /// What the model runs a short text on, after all its weights were read once; without it, only the header is looked at.
    pub cpu: Option<CpuOptions>,
    /// Where the text runs.
    pub device: DeviceName,
    /// Another tokenizer than the file's own.
    pub tokenizer: Option<PathBuf>,
    /// Two devices that run the text side by side, the first of them a CPU.
    pub compare_devices: Option<[DeviceName; 2]>,
    /// What type numbers of GGUF mean that several formats have, where the file does not tell.
    pub layouts: Vec<&'static Format>,
}

/// Examines a model file, which need not even open. `progress` gets the bytes of weights read and their sum, again and
/// again while the model runs, and may break off: then there is no report. Whatever is wrong is a finding.
pub fn examine(
    path: &Path,
    options: &DoctorOptions,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Option<DoctorReport> {
    let DoctorOptions { cpu, device, tokenizer, compare_devices, layouts } = options.clone();
    let file = match open_file(path, &OpenOptions { layouts, ..OpenOptions::default() }) {
        Ok(file) => file,
        Err(error) => {
            let skipped = |names| DeviceComparison::skipped(&names, "the file does not open");
            return Some(DoctorReport {
                opens: false,
                receipt: None,
                findings: vec![file::unopened(&error)],
                smoke_test: None,
                compared_devices: compare_devices.map(skipped),
            });
        }
    };
    let spec = Spec::of(&file);
    let quant_method = spec.as_ref().map_or(QuantMethod::None, |spec| spec.quant_method.clone());
    let tensors = if cpu.is_some() { tensors::count(&file, quant_method, progress)? } else { Vec::new() };
    let language = tokenizer.map_or_else(|| Language::of(&file), |path| Language::open(&path));
    // What follows takes its time, too.
    let total = if cpu.is_some() { file.tensors().map(|view| view.bytes.len() as u64).sum() } else { 0 };
    let mut ask = || progress(total, total);
    let mut context = Context {
        file: &file,
        spec,
        language,
        tensors,
        device: cpu.map(|cpu| DeviceOptions { device, cpu, ..DeviceOptions::default() }),
        compare_devices,
        smoke_test: None,
        compared: None,
        patience: Patience { progress: &mut ask, is_over: false },
        worst: None,
    };
    let mut findings = Vec::new();
    for check in CHECKS {
        findings.extend((check.run)(&mut context));
        if context.patience.is_over {
            return None;
        }
        context.worst = findings.iter().map(|finding: &Finding| finding.severity).max();
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let Context { smoke_test, compared: compared_devices, .. } = context;
    let receipt = ReceiptSummary::of(file.metadata()).ok().flatten();
    Some(DoctorReport { opens: true, receipt, findings, smoke_test, compared_devices })
}
