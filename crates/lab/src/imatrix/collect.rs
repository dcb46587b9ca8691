use super::{Entry, Error, Imatrix};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use trine_backend::{CacheType, Observed, Observer};
use trine_model::Runner;
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_tensor::File;

/// What is run.
#[derive(Clone, Debug)]
pub struct ImatrixOptions {
    /// Tokens of a chunk, of which BOS is the first if there is one here.
    pub context: usize,
    pub bos: Option<u32>,
    /// The output head, too, for which llama.cpp uses no importance matrix unless asked.
    pub head: bool,
    /// Maximum tokens per forward pass. It changes the speed, never the result.
    pub batch: usize,
    /// What the cache keeps keys and values as.
    pub cache_type: CacheType,
    /// The name of the text, which the file has.
    pub dataset: String,
}

/// Runs a text in chunks through a model that `observer` watches, and adds up the squares of what its matrices are multiplied with. `file` is
/// the model's: where several matrices are one in it, so is their entry. `progress` gets how many chunks of how many are done, and may
/// break off: the result is then that of the chunks so far.
///
/// # Errors
/// When the context is longer than the model's, the text has too few tokens for one chunk, there is no room for the cache, a pass fails,
/// an input is not finite, or `progress` breaks off before the first chunk.
pub fn collect(
    runner: &mut dyn Runner,
    observer: &Observer,
    file: &File,
    ids: &[u32],
    options: &ImatrixOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Imatrix, Error> {
    let (context, most) = (options.context, runner.spec().context_length);
    if !(1..=most).contains(&context) {
        return Err(Error::Context { found: context, most });
    }
    let chunks: Vec<&[u32]> = ids.chunks_exact(context).collect();
    if chunks.is_empty() {
        return Err(Error::TooShort { context, tokens: ids.len() });
    }
    let scoring =
        ScoreOptions { batch: options.batch, cache_type: options.cache_type, want: Want::Top { k: 0, edits: &[] } };
    observer.take();
    let (mut sums, mut done) = (BTreeMap::new(), 0);
    for chunk in &chunks {
        if progress(done, chunks.len()).is_break() {
            break;
        }
        let mut ids = chunk.to_vec();
        ids[0] = options.bos.unwrap_or(ids[0]);
        let outputs = if options.head { ids.len() } else { 1 };
        match score::<Error>(runner, &[ScoreInput { ids, outputs }], &scoring, &mut |_, _| {
            Ok(ControlFlow::Continue(()))
        }) {
            Err(Error::Model(trine_model::Error::Stopped)) => break,
            result => result?,
        }
        done += 1;
        // What a pass that breaks off has seen is no whole chunk.
        observer.take().into_iter().for_each(|(name, seen)| add(&mut sums, name, seen));
    }
    observer.take();
    if done == 0 {
        return Err(Error::Cancelled);
    }
    sums.retain(|name: &String, _| name.starts_with("blk.") || (options.head && name == "output.weight"));
    let mut entries = BTreeMap::new();
    for (name, Observed { squares, counts, .. }) in sums {
        let sums: Vec<f32> = squares.iter().map(|&sum| sum as f32).collect();
        if let Some(&found) = sums.iter().find(|sum| !sum.is_finite()) {
            return Err(Error::NotFinite { tensor: name, found });
        }
        let counts = counts.iter().map(|&count| count as f32).collect();
        // Each part of a fused matrix has the same inputs.
        entries.entry(stored_name(|name| file.contains(name), name)).or_insert(Entry { sums, counts });
    }
    let datasets = vec![options.dataset.clone()];
    Ok(Imatrix { entries, chunks: done, chunk_size: context, datasets })
}

fn add(sums: &mut BTreeMap<String, Observed>, name: String, seen: Observed) {
    let Some(own) = sums.get_mut(&name) else {
        sums.insert(name, seen);
        return;
    };
    own.squares.iter_mut().zip(seen.squares).for_each(|(sum, more)| *sum += more);
    own.counts.iter_mut().zip(seen.counts).for_each(|(count, more)| *count += more);
}

/// The name of the matrix in a GGUF file of which this one may be a part.
pub(crate) fn stored_name(contains: impl Fn(&str) -> bool, name: String) -> String {
    const FUSED: [(&str, &str); 4] = [
        ("attn_q.weight", "attn_qkv.weight"),
        ("attn_k.weight", "attn_qkv.weight"),
        ("attn_v.weight", "attn_qkv.weight"),
        ("ffn_gate.weight", "ffn_up.weight"),
    ];
    if contains(&name) {
        return name;
    }
    let fused = FUSED.iter().find_map(|(part, fused)| Some(format!("{}{fused}", name.strip_suffix(part)?)));
    fused.filter(|fused| contains(fused)).unwrap_or(name)
}
