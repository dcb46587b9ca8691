//! An engine for several threads: `cargo run --release --example threads -- "Once upon a time" "The little dog"`.

use trine::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prompts: Vec<String> = std::env::args().skip(1).collect();
    let mut options = Options::default();
    options.engine.max_sequences = prompts.len().max(1);
    let (handle, _) = options.spawn(EMBEDDED)?;
    std::thread::scope(|scope| {
        for prompt in &prompts {
            let handle = handle.clone();
            scope.spawn(move || {
                let sampling = Sampling { max_tokens: Some(64), ..Sampling::greedy() };
                match handle.submit(Request::new(prompt.as_str(), sampling)).and_then(|answer| answer.answer()) {
                    Ok(answer) => println!("{prompt}{}\n", answer.text),
                    Err(error) => eprintln!("{prompt}: {error}"),
                }
            });
        }
    });
    handle.shutdown()?;
    Ok(())
}
