//! Writes the logits after every token: `cargo run --release --example logits -- MODEL IDS.json LOGITS.f32`.
//!
//! IDS.json is a list of token ids, or a list of such lists, each run from an empty cache. LOGITS.f32 is float32, little-endian,
//! `[positions, vocab]`, one list after another: what `golden/compare_llamacpp.py kl --trine` reads.

use std::fs::File;
use std::io::{BufWriter, Write};
use trine::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, ids, out] = &args[..] else {
        return Err("expected a model file, a JSON file of token ids and a file to write".into());
    };
    let ids = std::fs::read(ids)?;
    let windows: Vec<Vec<u32>> =
        serde_json::from_slice(&ids).or_else(|_| Ok::<_, serde_json::Error>(vec![serde_json::from_slice(&ids)?]))?;
    let mut decoder = Decoder::open(model)?;
    let mut out = BufWriter::new(File::create(out)?);
    for window in &windows {
        for logit in decoder.logits(window)? {
            out.write_all(&logit.to_le_bytes())?;
        }
    }
    out.flush()?;
    Ok(())
}
