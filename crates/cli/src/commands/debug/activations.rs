//! `trine debug activations`: hidden states of a text.

use crate::exit::Exit;
use crate::load::LoadArgs;
use crate::output;
use crate::{input, interrupt, units};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use trine_backend::CacheType;
use trine_model::runner::{Output, Sequences, Want};
use trine_tensor::format::F32;
use trine_tensor::{TensorInfo, safetensors};

/// Write the hidden states of a text, layer by layer, as safetensors
///
/// hidden_states.0 are the embeddings, hidden_states.1 what the first layer makes of them, and so on; the last are those after the last norm, of which
/// the head makes logits. Each is [tokens, hidden_size] in F32. So does transformers number them with output_hidden_states.
///
/// Where a model goes wrong, compare them with those of another program, layer by layer; --activations f32 rounds nothing on the way.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine debug activations model.gguf \"Once upon a time\" -o a.safetensors\n  \
    trine debug activations model.gguf -o a.safetensors < text.txt")]
pub struct Activations {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Text [default: stdin, without its last newline]
    text: Option<String>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Print no notes and warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

impl Activations {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        output::check_new(&self.output, self.force, "pass --force to replace it")?;
        let text = self.text.map_or_else(input::text, Ok)?;
        let decoder = self.load.load(&self.model, self.quiet, &stop)?;
        let ids = decoder.tokens(&text);
        let (mut runner, _) = decoder.into_parts();
        let spec = runner.spec();
        let (layers, width, most) = (spec.n_layers, spec.hidden_size, spec.context_length);
        anyhow::ensure!(!ids.is_empty(), "expected a text, found none");
        anyhow::ensure!(
            ids.len() <= most,
            "expected at most {most} tokens, the context of the model, found {}",
            ids.len()
        );
        let mut sequences = Sequences::new(&mut *runner, Sequences::blocks_of(ids.len()), CacheType::F32)?;
        let (sequence, mut found) = (sequences.add(ids.len()), Output::default());
        sequences.push(sequence, &ids, ids.len());
        sequences.run(&mut *runner, Want::Layers, &mut found)?;
        let tensor = |i| TensorInfo { name: format!("hidden_states.{i}"), format: &F32, shape: vec![ids.len(), width] };
        let mut writer = safetensors::create(&self.output, (0..=layers).map(tensor).collect())?;
        for values in found.values.chunks_exact(ids.len() * width) {
            writer.tensor(&F32.encode(values))?;
        }
        writer.finish()?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let report = json!({ "file": self.output, "ids": ids, "layers": layers, "hidden_size": width });
            writeln!(out, "{report}")?;
        } else {
            let (path, tokens) = (self.output.display(), units::plural(ids.len() as u64, "token"));
            writeln!(out, "{path}: {tokens}, {layers} layers, {width} numbers each")?;
        }
        Ok(Exit::Done)
    }
}
