//! Sample texts of a model that is being trained.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use trine::Options;
use trine_backend::When;
use trine_engine::Sampling;

/// The default prompt.
const PROMPT: &str = "Once upon a time";
/// Maximum tokens of a sample.
const TOKENS: usize = 60;

/// Prompts and their completions, always with the same seed, so that samples of different steps can be compared.
///
/// # Errors
/// When the model cannot be loaded or run.
pub fn texts(
    model: &Path,
    prompts: &[String],
    threads: usize,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<(String, String)>, trine::Error> {
    let mut options = Options::default();
    let cpu = &mut options.device.cpu;
    (cpu.threads, cpu.huge_pages, cpu.repack) = (threads, When::Off, When::Off);
    let mut llm = options.open(model)?;
    let sampling = Sampling { temperature: 0.8, seed: Some(0), max_tokens: Some(TOKENS), ..Sampling::default() };
    let default = [PROMPT.to_owned()];
    let prompts = if prompts.is_empty() { &default } else { prompts };
    let text = |prompt: &String| {
        let stream = llm.stream(prompt, &sampling)?.stop_when(stop.clone());
        let text = stream.map(|token| Ok(token?.text)).collect::<Result<String, trine::Error>>()?;
        Ok((prompt.clone(), text))
    };
    prompts.iter().map(text).collect()
}
