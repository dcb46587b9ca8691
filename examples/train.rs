//! Trains a small ternary model for a few minutes on stories separated by `<|endoftext|>`, and generates one:
//! `cargo run --release -p trine --features train --example train -- stories.txt`.

use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;
use trine::prelude::*;
use trine::text::BpeOptions;
use trine::train::{Config, TrainEvent, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stories = std::env::args().nth(1).ok_or("expected a text file")?;
    let folder = Path::new("trained");
    std::fs::create_dir_all(folder)?;

    let text = std::fs::read_to_string(&stories)?;
    let documents = text.split("<|endoftext|>").map(|story| Ok::<_, trine::text::Error>(story.to_owned()));
    let tokenizer = BpeOptions { vocab_size: 1024, ..BpeOptions::default() }.train(documents)?;
    std::fs::write(folder.join("tokenizer.json"), tokenizer.tokenizer)?;
    std::fs::write(folder.join("tokenizer_config.json"), tokenizer.config)?;

    // The defaults are those of `trine train --example`.
    let config: Config = serde_json::from_value(json!({
        "model": { "tokenizer": folder.join("tokenizer.json"), "n_layers": 4, "hidden_size": 128, "n_heads": 4, "intermediate_size": 384 },
        "data": { "files": [stories] },
        "train": { "steps": 300, "batch": 8 },
        "optimizer": { "name": "muon", "learning_rate": 4e-3 },
        "output": { "folder": folder },
    }))?;
    let mut trainer = Trainer::new(&config, false, &mut |_| ControlFlow::Continue(()))?;
    let trained = trainer.run(&mut |event| {
        if let TrainEvent::Step(step) = event
            && step.step % 10 == 0
        {
            println!("step {} of {}: {:.3} nats per token", step.step, step.steps, step.loss);
        }
        ControlFlow::Continue(())
    })?;

    let mut llm = Llm::open(&trained.model)?;
    println!(
        "{}",
        llm.generate("Once upon a time", &Sampling { max_tokens: Some(100), ..Sampling::preset("balanced")? })?.text
    );
    Ok(())
}
