//! An engine for async tasks: `cargo run --release --example tokio -- "Once upon a time"`. A task that is dropped cancels its request.

use std::time::Duration;
use trine::engine::Update;
use trine::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prompt = std::env::args().nth(1).ok_or("expected a prompt")?;
    let (handle, _) = Options::default().spawn(EMBEDDED)?;
    let sampling = Sampling { max_tokens: Some(64), ..Sampling::greedy() };
    print!("{prompt}");
    let mut story = handle.submit_async(Request::new(prompt, sampling)).await?;
    let told = tokio::time::timeout(Duration::from_secs(20), async {
        while let Some(update) = story.next_async().await {
            match update {
                Update::Progress(_) | Update::Prompt(_) => {}
                Update::Token(token) => print!("{}", token.text),
                Update::Finished { text, finish_reason, usage, .. } => {
                    println!("{text}\n({finish_reason:?}, {} tokens)", usage.completion_tokens)
                }
            }
        }
    });
    told.await?;
    handle.shutdown_async().await?;
    Ok(())
}
