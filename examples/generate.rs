//! Continues a text: `cargo run --release --example generate -- MODEL "Once upon a time"`.

use std::io::Write;
use trine::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(prompt)) = (args.next(), args.next()) else {
        return Err("expected a model file and a prompt".into());
    };
    let mut llm = Llm::open(model)?;
    let sampling = Sampling { max_tokens: Some(200), ..Sampling::preset("balanced")? };
    print!("{prompt}");
    for token in llm.stream(&prompt, &sampling)? {
        print!("{}", token?.text);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
