use crate::exit::{Exit, UsageError};
use crate::load::LoadArgs;
use crate::table::{columns, visible};
use crate::{input, interrupt, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use trine_backend::{ActivationPrecision, Observer};
use trine_lab::bench::TEXT;
use trine_lab::w8a8::{ErrorRow, ErrorTable, Granularity, error_table};
use trine_model::GgufModel;
use trine_text::EncodeOptions;
use trine_train::data::DocumentFormat;

/// Measure what 8-bit integers cost, by what shares a scale
///
/// The first tokens of a text are run, and the inputs of every matrix recorded. Then weights and inputs are rounded to integers of 8 bits
/// in every usual way, and the products compared with those of floats: the error is the root mean square of the difference of all
/// products, as a share of their own.
///
/// Weights have a scale for a matrix, for a row (channel), or for a group of inputs, with a zero point if they are asymmetric.
/// Inputs have a scale for 32 of a token, as products of `trine run` have it, for each token, or one for the matrix (static) that the
/// first half of the tokens calibrates; the second half is measured.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine eval w8a8 f16.gguf text.txt\n  \
    trine eval w8a8 Qwen3-0.6B/ text.txt --tokens 512 --json")]
pub struct EvalW8A8 {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Text file, or `-` for text from stdin [default: a short text]
    text: Option<PathBuf>,
    /// Maximum number of tokens
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(2..), default_value_t = 256)]
    tokens: u32,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Print no progress and no warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

impl EvalW8A8 {
    pub fn run(mut self) -> Result<Exit> {
        self.load.check_no_template()?;
        let (activations, usual) = (self.load.machine.activations, ActivationPrecision::default());
        // Variables may be for other commands.
        let unset = |variable: &str| std::env::var_os(variable).is_none();
        let unused = [
            ("--quantize-on-load", self.load.quantize_on_load.is_some()),
            ("--context", self.load.context.is_some() && unset("TRINE_CONTEXT")),
            ("--activations", ![usual, ActivationPrecision::F32].contains(&activations) && unset("TRINE_ACTIVATIONS")),
        ];
        if let Some((flag, _)) = unused.iter().find(|(_, given)| *given) {
            let message =
                format!("{flag}: the table is that of the file's weights and of inputs in float32, of --tokens tokens");
            return Err(UsageError { message, hint: "omit it" }.into());
        }
        let mut texts = Vec::new();
        match &self.text {
            Some(path) => {
                for text in input::documents(path, DocumentFormat::Separator(String::new()))? {
                    texts.push(text?);
                }
            }
            None => texts.push(TEXT.to_owned()),
        }
        let stop = interrupt::flag()?;
        let observer = Observer::keeping(self.tokens as usize);
        let file = self.load.layouts.open(&self.model)?;
        // Inputs are those of a model that rounds none.
        self.load.machine.activations = ActivationPrecision::F32;
        let decoder = self.load.load_observed(&self.model, self.quiet, &stop, observer.clone())?;
        if !self.quiet {
            decoder.warnings().iter().for_each(|warning| note!("warning: {}", visible(warning)));
        }
        let plain = EncodeOptions { add_special: true, parse_special: false };
        let mut ids: Vec<u32> = texts.iter().flat_map(|text| decoder.tokenizer().encode(text, plain)).collect();
        ids.truncate(decoder.spec().context_length.min(self.tokens as usize));
        let (mut runner, _) = decoder.into_parts();
        let model = GgufModel::open(&file, None)?;
        let bar =
            if self.quiet { ProgressBar::hidden() } else { progress::bar("{bar:30} {pos}/{len} matrices {eta}", 0) };
        let table = error_table(&model, &mut *runner, &observer, &ids, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let table = table?;
        let mut out = io::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string(&table)?)?,
            false => print(&table, &mut out)?,
        }
        Ok(Exit::Done)
    }
}

fn print(table: &ErrorTable, out: &mut impl Write) -> io::Result<()> {
    let header = [
        "weights",
        "their error",
        "float inputs",
        "per 32",
        "per token",
        "per token, asymmetric",
        "static",
        "static, asymmetric",
    ];
    let percent = |error: &f64| format!("{:.3} %", 100.0 * error);
    let row = |row: &ErrorRow| {
        let name = row.weights.map_or("float".to_owned(), |weights| {
            let shared = match weights.granularity {
                Granularity::Tensor => "a matrix".to_owned(),
                Granularity::Channel => "a row".to_owned(),
                Granularity::Group(size) => format!("{size} inputs"),
            };
            shared + if weights.symmetric { "" } else { ", asymmetric" }
        });
        let mut cells = vec![name, percent(&row.weight_error)];
        cells.extend(row.errors.iter().map(percent));
        <[String; 8]>::try_from(cells).expect("eight cells")
    };
    let rows: Vec<[String; 8]> = std::iter::once(header.map(str::to_owned)).chain(table.rows.iter().map(row)).collect();
    writeln!(out, "{}", columns(&rows, 1))?;
    let [calibrated, measured] = table.tokens.map(|tokens| units::plural(tokens as u64, "token"));
    let matrices = match table.matrices {
        1 => "1 matrix".to_owned(),
        n => format!("{n} matrices"),
    };
    writeln!(out, "errors of the products of {matrices}; {calibrated} calibrated, {measured} were measured")?;
    if table.left_out > 0 {
        writeln!(out, "left out, as each expert or head has inputs of its own: {}", table.left_out)?;
    }
    Ok(())
}
