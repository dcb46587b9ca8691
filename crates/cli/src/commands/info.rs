use crate::exit::Exit;
use crate::load::LayoutArgs;
use crate::machine::MachineArgs;
use crate::table::{self, Facts};
use crate::units;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use trine_lab::receipt::ReceiptSummary;
use trine_model::{Language, Pooling, PoolingHead, Spec, is_for_embeddings};
use trine_tensor::{Array, File, FileFormat, Value};
use trine_text::Template;

/// Show the contents of a model file
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine info model.gguf\n  \
    trine info model.gguf --tensors --metadata\n  \
    trine info folder/ --json | jq .parameters\n  \
    trine info embedded:stories                  the built-in model")]
pub struct Info {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Context length of the memory plan [default: the model's, at most 4096]
    #[arg(long, value_name = "N", env = "TRINE_CONTEXT", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Maximum number of prompt tokens in one forward pass of the memory plan [default: 512]
    #[arg(long, value_name = "N", env = "TRINE_BATCH", hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Number of requests of the memory plan that run at once, as for `trine serve`
    #[arg(long, value_name = "N", default_value_t = 1, hide_short_help = true, value_parser = clap::value_parser!(u32).range(1..=1024))]
    parallel: u32,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// List all tensors
    #[arg(long)]
    tensors: bool,
    /// List all metadata; long lists are shortened
    #[arg(long)]
    metadata: bool,
    /// Print the chat template
    #[arg(long)]
    template: bool,
    /// Print JSON; unknown values are null
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Shown elements of a list in the metadata.
const SHOWN: usize = 4;
/// Shown characters of a value.
const LINE: usize = 80;

#[derive(Serialize)]
struct InfoReport {
    path: String,
    kind: String,
    bytes: u64,
    name: Option<String>,
    architecture: Option<String>,
    /// Whether it can be run.
    supported: bool,
    /// Whether the architecture is one that is known.
    #[serde(skip)]
    known: bool,
    parameters: u64,
    bits_per_weight: Option<f64>,
    formats: Vec<FormatReport>,
    /// How ambiguous type numbers were read.
    notes: Vec<String>,
    shape: Option<ShapeReport>,
    tokenizer: Option<TokenizerReport>,
    chat_template: bool,
    /// Their names.
    chat_templates: Vec<String>,
    memory: Option<MemoryReport>,
    /// What it makes of a text, if it is for embeddings.
    embeddings: Option<EmbeddingReport>,
    /// What the file says of its origin; `trine verify` checks it.
    receipt: Option<ReceiptSummary>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<Vec<TensorReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<serde_json::Map<String, Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    /// All of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    templates: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct FormatReport {
    name: &'static str,
    tensors: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct ShapeReport {
    n_layers: usize,
    hidden_size: usize,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    intermediate_size: usize,
    vocab_size: usize,
    context_length: usize,
    bit_linear: bool,
}

#[derive(Serialize)]
struct TokenizerReport {
    kind: String,
    tokens: usize,
    bos: Option<TokenReport>,
    eos: Option<TokenReport>,
    ends: Vec<TokenReport>,
    adds_bos: bool,
}

#[derive(Serialize)]
struct TokenReport {
    id: u32,
    name: Option<String>,
}

#[derive(Serialize)]
struct EmbeddingReport {
    pooling: &'static str,
    size: usize,
}

#[derive(Serialize)]
struct MemoryReport {
    context: usize,
    parallel: u32,
    weights_bytes: u64,
    kv_cache_bytes: u64,
    activations_bytes: u64,
    sampling_bytes: u64,
    program_bytes: u64,
    total_bytes: u64,
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    format: &'static str,
    shape: Vec<usize>,
    bytes: u64,
}

impl Info {
    pub fn run(self) -> Result<Exit> {
        let file = self.layouts.open(&self.model)?;
        if let (Some(asked), Ok(spec)) = (self.context, Spec::of(&file)) {
            let (asked, most) = (asked as usize, spec.context_length);
            if asked > most {
                return Err(trine::Error::from(trine_engine::Error::Context { asked, most }).into());
            }
        }
        let report = self.report(&file);
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            print(&report, &mut out)?;
        }
        out.flush()?;
        Ok(Exit::Done)
    }

    fn report(&self, file: &File) -> InfoReport {
        let mut warnings = file.warnings().to_vec();
        let mut known = true;
        let spec = Spec::of(file).map_err(|error| {
            known = !matches!(error, trine_model::Error::UnknownArch { .. } | trine_model::Error::NoConfig { .. });
            warnings.push(error.to_string());
        });
        let spec = spec.ok();
        let for_embeddings = spec.as_ref().is_some_and(|spec| is_for_embeddings(file) || spec.arch.encoder);
        let embeddings = spec.as_ref().filter(|_| for_embeddings).and_then(|spec| {
            let head = PoolingHead::of(spec, file).map_err(|error| warnings.push(error.to_string())).ok()?;
            warnings.extend_from_slice(head.warnings());
            let pooling = match head.pooling() {
                Pooling::Mean => "mean",
                Pooling::MeanSqrtLen => "mean_sqrt_len",
                Pooling::First => "first",
                Pooling::Last => "last",
            };
            Some(EmbeddingReport { pooling, size: head.width() })
        });
        let language = Language::of(file).map_err(|error| warnings.push(error.to_string())).ok();
        warnings.extend(spec.iter().flat_map(|spec| &spec.warnings).cloned());
        if let Some(language) = &language {
            warnings.extend(language.warnings.iter().cloned());
            let templates = language.tokenizer.templates();
            if templates.is_empty() && !for_embeddings {
                warnings.push("the model has no chat template: chats continue plain text".to_owned());
            } else if !templates.is_empty() && !templates.contains("default") {
                let names = templates.names().collect::<Vec<_>>().join(", ");
                warnings
                    .push(format!("the model has no chat template named `default`: chats must choose one of {names}"));
            }
            for name in templates.names() {
                if let Some(Err(error)) = templates.only(name).map(|template| Template::of(&template, "", "")) {
                    let error = error.to_string();
                    let named = if name == "default" { String::new() } else { format!(" `{name}`") };
                    let problem = error.strip_prefix("chat template").unwrap_or(&error);
                    warnings.push(format!("chat template{named}{problem}"));
                }
            }
            if let Some(Err(error)) = spec.as_ref().map(|spec| language.check(spec)) {
                warnings.push(error.to_string());
            }
        }
        let templates = language.as_ref().map(|language| language.tokenizer.templates().clone()).unwrap_or_default();
        let parameters = trine::parameters(file);
        let memory = spec.as_ref().and_then(|spec| {
            let context = self.context.map_or(spec.context_length.min(4096), |context| context as usize);
            let mut options = self.machine.options();
            options.engine.context = Some(context);
            options.engine.max_sequences = self.parallel as usize;
            if let Some(batch) = self.batch {
                options.engine.prefill_chunk = batch as usize;
            }
            let memory = options.plan(file).map_err(|error| warnings.push(error.to_string())).ok()?;
            Some(MemoryReport {
                context,
                parallel: self.parallel,
                weights_bytes: memory.weights,
                kv_cache_bytes: memory.kv_cache,
                activations_bytes: memory.activations,
                sampling_bytes: memory.sampling,
                program_bytes: memory.program,
                total_bytes: memory.total(),
            })
        });
        let receipt = ReceiptSummary::of(file.metadata()).map_err(|error| warnings.push(error.to_string()));
        let tensor = |view: &trine_tensor::View| TensorReport {
            name: view.name.clone(),
            format: view.format.name,
            shape: view.shape.clone(),
            bytes: view.bytes.len() as u64,
        };
        let text = |key: &str| file.metadata().str(key).ok().flatten().map(str::to_owned);
        let of_config = || Some(file.config()?.get("model_type")?.as_str()?.to_owned());
        InfoReport {
            path: file.path().display().to_string(),
            kind: match file.format() {
                FileFormat::Gguf { version } => format!("GGUF {version}"),
                FileFormat::Safetensors => "safetensors".to_owned(),
            },
            bytes: file.size(),
            name: text("general.name"),
            architecture: text("general.architecture").or_else(of_config),
            supported: spec.is_some(),
            known,
            parameters,
            bits_per_weight: trine::bits_per_weight(file),
            formats: formats(file),
            notes: file.notes().iter().chain(spec.iter().flat_map(|spec| &spec.notes)).cloned().collect(),
            memory,
            embeddings,
            shape: spec.map(|spec| ShapeReport {
                n_layers: spec.n_layers,
                hidden_size: spec.hidden_size,
                n_heads: spec.n_heads,
                n_kv_heads: spec.n_kv_heads,
                head_dim: spec.head_dim,
                intermediate_size: spec.intermediate_size,
                vocab_size: spec.vocab_size,
                context_length: spec.context_length,
                bit_linear: spec.bit_linear,
            }),
            tokenizer: language.as_ref().map(|language| tokenizer(file, language)),
            chat_template: !templates.is_empty(),
            chat_templates: templates.names().map(str::to_owned).collect(),
            receipt: receipt.ok().flatten(),
            warnings,
            tensors: self.tensors.then(|| file.tensors().map(tensor).collect()),
            metadata: self.metadata.then(|| metadata(file)),
            template: templates.get("default").filter(|_| self.template).map(str::to_owned),
            templates: (self.template && templates.names().any(|name| name != "default"))
                .then(|| templates.iter().map(|(name, source)| (name.to_owned(), source.to_owned())).collect()),
        }
    }
}

/// Tensors and bytes of each format, largest first.
fn formats(file: &File) -> Vec<FormatReport> {
    let mut formats = BTreeMap::new();
    for view in trine::distinct(file) {
        let (tensors, bytes) = formats.entry(view.format.name).or_insert((0, 0));
        *tensors += 1;
        *bytes += view.bytes.len() as u64;
    }
    let mut formats: Vec<_> =
        formats.into_iter().map(|(name, (tensors, bytes))| FormatReport { name, tensors, bytes }).collect();
    formats.sort_by_key(|format| std::cmp::Reverse(format.bytes));
    formats
}

fn tokenizer(file: &File, language: &Language) -> TokenizerReport {
    let tokenizer = &language.tokenizer;
    let token = |id: u32| TokenReport { id, name: tokenizer.name(id).map(str::to_owned) };
    let key = |name: &str| file.metadata().str(name).ok().flatten();
    let kind = match (key("tokenizer.ggml.model"), key("tokenizer.ggml.pre")) {
        (Some(model), Some(pre)) => format!("{model}, pre-tokenizer {pre}"),
        (Some(model), None) => model.to_owned(),
        (None, _) => "in a separate file".to_owned(),
    };
    TokenizerReport {
        kind,
        tokens: tokenizer.len(),
        bos: tokenizer.bos().map(token),
        eos: tokenizer.eos().map(token),
        ends: tokenizer.eog_tokens().map(token).collect(),
        adds_bos: tokenizer.adds_bos(),
    }
}

/// The metadata of a GGUF file, or config.json.
fn metadata(file: &File) -> serde_json::Map<String, Json> {
    let keys = file.metadata().iter().map(|(key, value)| (key.to_owned(), shorten(value)));
    let config = file.config().and_then(Json::as_object).into_iter().flatten();
    keys.chain(config.map(|(key, value)| (key.clone(), value.clone()))).collect()
}

/// A value as JSON; a long list as its length and first elements.
fn shorten(value: &Value) -> Json {
    macro_rules! list {
        ($items:expr) => {
            match $items.len() {
                len if len > SHOWN => json!({ "length": len, "first": $items[..SHOWN] }),
                _ => json!($items),
            }
        };
    }
    match value {
        Value::U8(n) => json!(n),
        Value::I8(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U64(n) => json!(n),
        Value::I64(n) => json!(n),
        // The shortest digits of the f32, not those of the nearest f64.
        Value::F32(n) => json!(n.to_string().parse::<f64>().ok()),
        Value::F64(n) => json!(n),
        Value::Bool(n) => json!(n),
        Value::String(text) => json!(text),
        Value::Bytes(text) => json!(String::from_utf8_lossy(text)),
        Value::Array(array) => match array {
            Array::U8(items) => list!(items),
            Array::I8(items) => list!(items),
            Array::U16(items) => list!(items),
            Array::I16(items) => list!(items),
            Array::U32(items) => list!(items),
            Array::I32(items) => list!(items),
            Array::U64(items) => list!(items),
            Array::I64(items) => list!(items),
            Array::F32(items) => list!(items),
            Array::F64(items) => list!(items),
            Array::Bool(items) => list!(items),
            Array::String(items) => list!(items.iter().collect::<Vec<_>>()),
            Array::Bytes(items) => list!(items.iter().map(|item| String::from_utf8_lossy(item)).collect::<Vec<_>>()),
        },
    }
}

fn print(report: &InfoReport, out: &mut impl Write) -> std::io::Result<()> {
    let mut facts = Facts::default();
    facts.push("file", format!("{} ({}, {} on disk)", report.path, report.kind, units::bytes(report.bytes)));
    facts.push("name", report.name.as_deref().unwrap_or("unknown"));
    let unsupported = match (report.supported, report.known) {
        (true, _) => "",
        (false, true) => " (known, but see the warning)",
        (false, false) => " (not supported)",
    };
    facts.push("architecture", format!("{}{unsupported}", report.architecture.as_deref().unwrap_or("unknown")));
    facts.push("parameters", units::count(report.parameters));
    let bits = report.bits_per_weight.map_or("unknown".to_owned(), |bits| format!("{bits:.2}"));
    facts.push("bits per weight", bits);
    for format in &report.formats {
        let name = format!("format {}", format.name);
        facts.push(name, format!("{}, {}", units::plural(format.tensors as u64, "tensor"), units::bytes(format.bytes)));
    }
    for note in &report.notes {
        facts.push("note", note);
    }
    if let Some(shape) = &report.shape {
        let (hidden, intermediate) = (shape.hidden_size, shape.intermediate_size);
        facts.push("layers", format!("{}, hidden size {hidden}, intermediate size {intermediate}", shape.n_layers));
        facts.push(
            "heads",
            format!(
                "{} of size {}, {}",
                shape.n_heads,
                shape.head_dim,
                units::plural(shape.n_kv_heads as u64, "KV head")
            ),
        );
        facts.push("vocabulary", units::count(shape.vocab_size as u64));
        facts.push("context length", units::count(shape.context_length as u64));
        if shape.bit_linear {
            facts.push("activations", "int8, one scale per token");
        }
    }
    if let Some(embeddings) = &report.embeddings {
        facts.push(
            "embeddings",
            format!("{} numbers, pooling {}", units::count(embeddings.size as u64), embeddings.pooling),
        );
    }
    match &report.tokenizer {
        Some(tokenizer) => {
            facts.push("tokenizer", format!("{}, {}", tokenizer.kind, units::plural(tokenizer.tokens as u64, "token")));
            let show = |token: &TokenReport| format!("{} `{}`", token.id, token.name.as_deref().unwrap_or(""));
            let bos = tokenizer.bos.as_ref().map_or("none".to_owned(), show);
            facts.push("BOS", format!("{bos}{}", if tokenizer.adds_bos { "" } else { " (not added)" }));
            facts.push("end of generation", tokenizer.ends.iter().map(show).collect::<Vec<_>>().join(", "));
        }
        None => facts.push("tokenizer", "none"),
    }
    let names = report.chat_templates.join(", ");
    facts.push(
        "chat template",
        match &*names {
            "" => "no",
            "default" => "yes",
            names => names,
        },
    );
    if let Some(memory) = &report.memory {
        let plan = format!(
            "{}: weights {}, KV cache {}, activations {}, program {}",
            units::bytes(memory.total_bytes),
            units::bytes(memory.weights_bytes),
            units::bytes(memory.kv_cache_bytes),
            units::bytes(memory.activations_bytes + memory.sampling_bytes),
            units::bytes(memory.program_bytes)
        );
        let requests = if memory.parallel > 1 { format!(", {} at once", memory.parallel) } else { String::new() };
        facts.push(format!("memory, context {}{requests}", units::count(memory.context as u64)), plan);
    }
    if let Some(receipt) = &report.receipt {
        facts.push("receipt", receipt.to_string());
    }
    for warning in &report.warnings {
        facts.push("warning", warning);
    }
    facts.print(out)?;
    if let Some(tensors) = &report.tensors {
        writeln!(out)?;
        let row = |tensor: &TensorReport| {
            let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            (tensor.name.clone(), format!("{:10} {shape:>14}  {:>12}", tensor.format, units::bytes(tensor.bytes)))
        };
        Facts::from_iter(tensors.iter().map(row)).print(out)?;
    }
    if let Some(metadata) = &report.metadata {
        writeln!(out)?;
        let show = |value: &Json| match (value["length"].as_u64(), &value["first"]) {
            (Some(length), Json::Array(first)) => {
                let first = first.iter().map(Json::to_string).collect::<Vec<_>>().join(", ");
                format!("[{first}, ...] ({} in total)", units::count(length))
            }
            _ => cut(value.to_string()),
        };
        Facts::from_iter(metadata.iter().map(|(key, value)| (key.clone(), show(value)))).print(out)?;
    }
    let mut print = |template: &str| {
        writeln!(out)?;
        template.lines().try_for_each(|line| writeln!(out, "{}", table::visible(line)))
    };
    match (&report.templates, &report.template) {
        (Some(templates), _) => {
            templates.iter().try_for_each(|(name, template)| print(&format!("{name}:\n{template}")))?
        }
        (None, Some(template)) => print(template)?,
        (None, None) => {}
    }
    Ok(())
}

/// A value on one line, shortened if it is long.
fn cut(text: String) -> String {
    match text.char_indices().nth(LINE) {
        Some((at, _)) => format!("{}... ({})", &text[..at], units::plural(text.len() as u64, "byte")),
        None => text,
    }
}
