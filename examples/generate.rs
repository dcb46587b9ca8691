//! Continues a text: `cargo run --release --example generate -- "Once upon a time"`, with a model after it, if any.

use std::io::Write;
use trine::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().ok_or("expected a prompt")?;
    let mut llm = Llm::open(args.next().unwrap_or(EMBEDDED.into()))?;
    let sampling = Sampling { max_tokens: Some(200), ..Sampling::preset("balanced")? };
    print!("{prompt}");
    for token in llm.stream(&prompt, &sampling)? {
        print!("{}", token?.text);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
